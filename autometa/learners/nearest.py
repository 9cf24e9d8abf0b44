"""Nearest neighbour on pixels: no network, no training, no meta-learning.

A query gets the label of the support image at the smallest Euclidean distance: the baseline of
B. Lake et al., "Human-level concept learning through probabilistic program induction", Science 350,
2015, and of O. Vinyals et al., NeurIPS 2016, https://arxiv.org/abs/1606.04080, table 1 ("pixels").
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Fast, Hyper, Learner, Params, members
from .domains import Float, hyper

SCALE = "scale"


@dataclass(frozen=True)
class NearestHyper(Hyper):
    """Only how sure it is; the outer loop's fields have no effect."""

    scale: float = hyper(
        10.0, Float(1.0, 100.0, log=True), "factor of the mean squared distance in the logits"
    )


@dataclass(frozen=True)
class Nearest(Learner[NearestHyper]):
    """One meta-parameter, which isn't learned: ``scale``. The encoder isn't used."""

    paper: ClassVar[str] = "baseline without learning"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = NearestHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        return {SCALE: torch.tensor(self.hyper.scale)}

    def learned(self, params: Params) -> frozenset[str]:
        return frozenset()

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Fast:
        """The support pixels [S, D], and which class [N, S] each is of."""
        return support_x.flatten(1), members(support_y, ways)

    def predict(self, params: Params, fast: Fast, query_x: Tensor) -> Tensor:
        """Minus the scaled mean squared pixel distance to the nearest image of each class."""
        pixels, member = fast
        queries = query_x.flatten(1)
        lengths = queries.square().sum(1, keepdim=True) + pixels.square().sum(1)
        closeness = (2 * queries @ pixels.T - lengths) / pixels.shape[1]
        each = torch.where(member, closeness[:, None], -torch.inf)
        return params[SCALE] * each.amax(-1)
