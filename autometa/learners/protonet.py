"""Prototypical networks: a class is the mean of its examples, a query belongs to the nearest.

J. Snell, K. Swersky, R. Zemel: "Prototypical Networks for Few-shot Learning", NeurIPS 2017,
https://arxiv.org/abs/1703.05175

An encoder f embeds the examples; the prototype c_k of a class is the mean of its embedded support
set (equation 1); a query's class probabilities are the softmax over negative squared Euclidean
distances to the prototypes (equation 2). Nothing is adapted but the prototypes, so one network
serves any number of ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import SCHEDULES, Hyper, Learner, Params, class_means, prefixed, under
from .domains import Choice, Float, hyper

LOG_SCALE = "log_scale"


@dataclass(frozen=True)
class ProtoNetHyper(Hyper):
    """The metric and the episodes; the defaults are the paper's method exactly.

    The paper trains on one episode a step, halving Adam's rate every 2,000, with more ways than it
    tests on: Omniglot 60 for tests of 5 and 20, mini-ImageNet 20 or 30 for 5 (section 3.1, 3.2).
    """

    meta_batch: int = hyper(1, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("halving", SCHEDULES, "course of the outer rate over the budget")
    way_factor: int = hyper(3, Choice((1, 2, 3, 4)), "ways in training per way in testing")
    distance: str = hyper(
        "euclidean",
        Choice(("euclidean", "cosine")),
        "squared Euclidean, or cosine as in matching networks",
    )
    scale: float = hyper(
        1.0, Float(0.1, 30.0, log=True), "factor of the distances before the softmax"
    )
    learn_scale: bool = hyper(
        False, Choice((False, True)), "whether training goes on from that factor, as in TADAM"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "scale")


@dataclass(frozen=True)
class ProtoNet(Learner[ProtoNetHyper]):
    """Meta-parameters: ``encoder.*``; ``log_scale``, a number.

    The scale is that of Oreshkin et al. (TADAM, NeurIPS 2018, arXiv:1805.10123, equation 1), kept
    as its logarithm, which we chose so that it stays positive.
    """

    paper: ClassVar[str] = "Snell, Swersky, Zemel 2017, arXiv:1703.05175"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = ProtoNetHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | {LOG_SCALE: torch.tensor(math.log(self.hyper.scale))}

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set() if self.hyper.learn_scale else {LOG_SCALE}
        return frozenset(params) - fixed

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """The prototypes [N, features] (equation 1); every class needs an example."""
        embedded = self.encoder(under("encoder", params), support_x)
        return class_means(embedded, support_y, ways)

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        """Scaled similarities: the logits whose softmax is equation 2."""
        embedded = self.encoder(under("encoder", params), query_x)
        return params[LOG_SCALE].exp() * self._similarity(embedded, fast)

    def _similarity(self, queries: Tensor, prototypes: Tensor) -> Tensor:
        if self.hyper.distance == "cosine":
            return F.normalize(queries, dim=-1) @ F.normalize(prototypes, dim=-1).T
        # Expanded, so that nothing of size [Q, N, features] arises.
        lengths = queries.square().sum(1, keepdim=True) + prototypes.square().sum(1)
        return 2 * queries @ prototypes.T - lengths
