"""Networks for a replay, which needs no more of them than their layers."""

from __future__ import annotations

from dataclasses import replace

from torch import nn

from autometa.backbones.base import Backbone, BackboneSpace, Condition, Option, Sample, Shape
from autometa.search.space import SearchSpace


class AlikeSpace(BackboneSpace):
    """A backbone space that builds one network for all samples in which the same labels matter.

    They have the same layers, which is what proposals of rates ask for; parameters and MACs are
    those of the one that was built, so a space with limits needs the networks themselves.
    """

    def __init__(self, space: BackboneSpace) -> None:
        self._space = space
        self._deciding: set[str] | None = None
        self._built: dict[str, Backbone] = {}

    def choices(self, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
        return self._space.choices(in_shape)

    def default(self) -> dict[str, Option]:
        return self._space.default()

    def condition(self, label: str) -> Condition | None:
        return self._space.condition(label)

    def network(self, sample: Sample, in_shape: Shape) -> nn.Module:
        return self._space.network(sample, in_shape)

    def build(self, sample: Sample, in_shape: Shape) -> Backbone:
        if self._deciding is None:
            needed = map(self._space.condition, self._space.choices(in_shape))
            self._deciding = {each.label for each in needed if each}
        key = str(
            ([(label, sample[label]) for label in sorted(self._deciding & {*sample})], in_shape)
        )
        if key not in self._built:
            self._built[key] = self._space.build(sample, in_shape)
        return self._built[key]


def alike(space: SearchSpace) -> SearchSpace:
    """The same space to propose from, without the time that networks take."""
    backbones = {
        name: replace(choices, space=AlikeSpace(choices.space))
        for name, choices in space.backbones.items()
    }
    return replace(space, backbones=backbones)
