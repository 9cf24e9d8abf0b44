"""Networks of a backbone space as a super-net's training and ranking draw them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import combinations

import torch
from torch import nn

from autometa.backbones.base import Backbone, Option, Sample
from autometa.config import LimitsConfig
from autometa.errors import ConfigError
from autometa.search.space import BackboneChoices, Candidate, RandomSuggest

Combination = tuple[tuple[str, Option], ...]

ATTEMPTS = 300
"""At a network within the limits."""
PATIENCE = 1000
"""Draws in a row that may bring no new pair of options."""


@dataclass(frozen=True)
class Paths:
    """The networks of a space that are within the limits; latency is none of them."""

    name: str
    choices: BackboneChoices
    limits: LimitsConfig

    def draw(self, seed: str) -> Backbone:
        """One network, each of its choices uniform.

        Raises:
            ConfigError: None of many is within the limits.
        """
        for attempt in range(ATTEMPTS):
            suggest = RandomSuggest(f"{seed}/{attempt}")
            sample, backbone = self.choices.sample(suggest, self.name)
            if self.candidate(sample, backbone).excess(self.limits) is None:
                return backbone
        raise ConfigError(
            f"{ATTEMPTS} random networks in a row exceed space.limits: raise them for a super-net"
        )

    def candidate(self, sample: Mapping[str, Option], backbone: Backbone) -> Candidate:
        """A network as the limits judge it."""
        return Candidate("", {}, self.name, dict(sample), backbone.parameters, backbone.macs)

    def network(self, sample: Sample) -> nn.Module:
        """The network of a sample, on the meta device."""
        with torch.device("meta"):
            return self.choices.space.network(sample, self.choices.in_shape)

    def covering(self) -> Iterator[nn.Module]:
        """Networks that together have every pair of options that any network has.

        And every three of choices that aren't a block's. The size of a layer depends on few choices
        (width and kernel, say), so these are enough to find its largest one.
        """
        seen: set[Combination] = set()
        barren = draws = 0
        while barren < PATIENCE:
            sample = self.choices.draw(RandomSuggest(draws), self.name)
            barren, draws = barren + 1, draws + 1
            if not seen.issuperset(found := _combinations(sample)):
                barren = 0
                seen |= found
                yield self.network(sample)


def _combinations(sample: Sample) -> set[Combination]:
    whole = [choice for choice in sample.items() if "/" not in choice[0]]
    return {*combinations(sample.items(), 2), *combinations(whole, 3)}
