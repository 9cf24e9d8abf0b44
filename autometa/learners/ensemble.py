"""What the Bayesian learners share: several networks adapted to a task, and their mixture."""

from __future__ import annotations

import math
from abc import ABC
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor
from torch.func import vmap

from .base import REGRESSION, Params
from .domains import Float, hyper
from .inner_loop import InnerLoopHyper, RatedLearner


@dataclass(frozen=True)
class EnsembleHyper(InnerLoopHyper):
    """Also the noise of what they predict."""

    noise_variance: float = hyper(
        0.5,
        Float(0.01, 1.0, log=True),
        "variance of a regression's noise; 0.5 makes the loss the squared error",
        batched=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "noise_variance")


M = TypeVar("M", bound=EnsembleHyper)


@dataclass(frozen=True)
class EnsembleLearner(RatedLearner[M], ABC):
    """``fast`` are the weights of several networks, stacked: a leading dimension M each."""

    def outputs(self, networks: Params, x: Tensor) -> Tensor:
        """Each network's logits or means, [M, B, ways]."""
        found: Tensor = vmap(self.network, in_dims=(0, None))(networks, x)
        return found

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        """Logarithms of the class probabilities' means over the networks; regression: means."""
        return average(self.outputs(fast, query_x), self.problem)

    def spread(self, params: Params, fast: Params, query_x: Tensor) -> Tensor | None:
        """Of the mixture of Gaussians that the networks are: noise and variance between them."""
        if self.problem != REGRESSION:
            return None
        between = self.outputs(fast, query_x).var(0, correction=0)
        return (self.hyper.noise_variance + between).sqrt()


def gaussian_nll(means: Tensor, y: Tensor, variance: float) -> Tensor:
    """−log N(y; mean, variance·I) of each example: [M, B, D], [B, D] → [M, B]."""
    squares = (means - y).square().sum(-1)
    return squares / (2 * variance) + y.shape[-1] / 2 * math.log(2 * math.pi * variance)


def average(outputs: Tensor, problem: str) -> Tensor:
    """Several networks' prediction: [M, B, N] → [B, N], means, or log of mean probabilities."""
    if problem == REGRESSION:
        return outputs.mean(0)
    return outputs.log_softmax(-1).logsumexp(0) - math.log(len(outputs))
