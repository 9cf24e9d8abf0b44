"""Infinite mixture prototypes: as many clusters a class as its examples ask for.

K. Allen, E. Shelhamer, H. Shin, J. Tenenbaum: "Infinite Mixture Prototypes for Few-Shot Learning",
ICML 2019, https://arxiv.org/abs/1902.04552

Every class starts with one cluster at its mean. The support examples are gone through in their
order (algorithm 1, as in DP-means): one that lies farther than λ from all clusters of its class
opens a cluster of its own, where λ follows from the concentration α of a Chinese restaurant process
and the learned cluster variance σ. Examples are then softly assigned to the clusters of their
class, the clusters move to the means of what they were assigned, and a query's logit of a class is
that of the class's nearest cluster. Few clusters give prototypes, many give nearest neighbours.
The paper also clusters examples without labels; here all have one.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import SCHEDULES, Hyper, Learner, Params, class_means, members, prefixed, under
from .domains import Choice, Float, hyper

LOG_SIGMA = "log_sigma"
EMPTY = 1e-3


@dataclass(frozen=True)
class IMPHyper(Hyper):
    """The mixture. Defaults are those of the authors' program for Omniglot.

    For mini-ImageNet it has α = 1e-5, σ = 15.
    """

    meta_batch: int = hyper(1, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("halving", SCHEDULES, "course of the outer rate over the budget")
    alpha: float = hyper(
        0.1,
        Float(1e-5, 1.0, log=True),
        "concentration: the higher, the more clusters",
        batched=False,
    )
    sigma: float = hyper(5.0, Float(0.1, 30.0, log=True), "variance of a cluster, at the start")
    learn_sigma: bool = hyper(True, Choice((True, False)), "whether training goes on from there")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "alpha", "sigma")


@dataclass(frozen=True)
class IMP(Learner[IMPHyper]):
    """Meta-parameters: ``encoder.*``; ``log_sigma``, a number, one variance for all clusters."""

    paper: ClassVar[str] = "Allen, Shelhamer, Shin, Tenenbaum 2019, arXiv:1902.04552"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = IMPHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | {LOG_SIGMA: torch.tensor(math.log(self.hyper.sigma))}

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set() if self.hyper.learn_sigma else {LOG_SIGMA}
        return frozenset(params) - fixed

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ways: int
    ) -> dict[str, Tensor]:
        """``centres`` of clusters, [N + N·K, features]; ``member``, whose they are, [N, N + N·K].

        There are as many as can be: one a class, then one an example. Those that weren't opened,
        or stayed empty, belong to no class. Every class needs an example.
        """
        z = self.encoder(under("encoder", params), support_x)
        labels = torch.cat([torch.arange(ways, device=support_y.device), support_y])
        means = class_means(z, support_y, ways)
        distances = _squared_distances(z, torch.cat([means, z]))
        sigma = params[LOG_SIGMA].exp()
        own = support_y[:, None] == labels
        opened = _open(distances, own, self._threshold(means, sigma))
        # With one σ for all, the normal densities' constants cancel in the softmax. The authors'
        # program takes the assignments as constants; here their gradient is followed.
        logits = torch.where(own & opened, -distances / (2 * sigma), -torch.inf)
        assigned = logits.softmax(1)
        mass = assigned.sum(0)
        # As the authors' program does; algorithm 1 has no such step. It takes away the mean of a
        # class whose examples have all gone elsewhere.
        kept = mass > EMPTY
        centres = assigned.T @ z / torch.where(kept, mass, 1)[:, None]
        return {"centres": centres, "member": members(labels, ways) & kept}

    def predict(self, params: Params, fast: dict[str, Tensor], query_x: Tensor) -> Tensor:
        """−d / 2σ of each class's nearest cluster; prototypical networks' logits for σ = ½."""
        queries = self.encoder(under("encoder", params), query_x)
        distances = _squared_distances(queries, fast["centres"])
        logits = -distances / (2 * params[LOG_SIGMA].exp())
        return torch.where(fast["member"], logits[:, None], -torch.inf).amax(-1)

    def _threshold(self, means: Tensor, sigma: Tensor) -> Tensor:
        """λ = −2σ log(α / (1 + ρ/σ)^{d/2}), ρ the variance of the classes' means."""
        rho = means.var(0).mean()
        return sigma * (means.shape[1] * torch.log1p(rho / sigma) - 2 * math.log(self.hyper.alpha))


def _open(distances: Tensor, own: Tensor, threshold: Tensor) -> Tensor:
    """Which clusters there are, [N + S], after S examples were gone through in their order.

    The authors' program looks at the class's mean only, the paper at all clusters of the class, as
    this does.

    Args:
        distances: Of the examples from where clusters can be, [S, N + S].
        own: Which of these belong to the example's class, [S, N + S].
    """
    examples, clusters = distances.shape
    index = torch.arange(clusters, device=distances.device)
    opened = index < clusters - examples
    for i, (row, mine) in enumerate(zip(distances, own, strict=True)):
        nearest = torch.where(mine & opened, row, torch.inf).amin()
        opened = opened | ((index == clusters - examples + i) & (nearest > threshold))
    return opened


def _squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """[P, F], [C, F] → [P, C]; expanded, so that nothing of size [P, C, F] arises."""
    lengths = points.square().sum(1, keepdim=True) + centres.square().sum(1)
    return lengths - 2 * points @ centres.T
