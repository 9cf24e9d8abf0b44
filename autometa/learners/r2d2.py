"""R2-D2 and LR-D2: a task's head is a ridge or logistic regression, differentiated exactly.

L. Bertinetto, J. F. Henriques, P. H. S. Torr, A. Vedaldi: "Meta-learning with differentiable
closed-form solvers", ICLR 2019, https://arxiv.org/abs/1805.08136

An encoder embeds the examples, and a linear model W is fitted to the embedded support set: by ridge
regression onto one-hot labels (R2-D2, section 3.2), or by a few of Newton's steps on the logistic
loss, each of them a reweighted ridge regression (LR-D2, section 3.3). With n examples of d
features, Woodbury's identity makes the d × d system one of n × n, which is small when shots are
few. The outer loop learns the encoder through the solution, the penalty λ, and the scale α and
offset β of the outputs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import (
    CLASSIFICATION,
    REGRESSION,
    SCHEDULES,
    Hyper,
    Learner,
    Params,
    members,
    prefixed,
    under,
)
from .domains import Choice, Float, Int, hyper

RIDGE = "ridge"
LOGISTIC = "logistic"
LOG_PENALTY, SCALE, OFFSET = "log_penalty", "scale", "offset"
LEAST_CURVATURE = 1e-8


@dataclass(frozen=True)
class R2D2Hyper(Hyper):
    """The solver, and where the numbers that are learned start.

    The paper trains on one episode a step with Adam at 0.005, halved every 2,000, with more ways
    than it tests on: Omniglot 60, mini-ImageNet 16, CIFAR-FS 20 for tests of 5 (section 4.2). Its
    code fixes λ at 50 for thousands of features whose sums of squares are divided by n; we keep to
    the paper's formula, which doesn't divide, and learn λ from 1. α is the code's for Omniglot.
    """

    meta_lr: float = hyper(5e-3, Float(1e-4, 1e-2, log=True), "rate of the outer optimizer")
    meta_batch: int = hyper(1, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("halving", SCHEDULES, "course of the outer rate over the budget")
    way_factor: int = hyper(3, Choice((1, 2, 3, 4)), "ways in training per way in testing")
    solver: str = hyper(
        RIDGE,
        Choice((RIDGE, LOGISTIC)),
        "of a classification: ridge (R2-D2) or logistic regression (LR-D2); others are ridge",
    )
    newton_steps: int = hyper(5, Int(1, 10), "Newton steps of the logistic regression")
    penalty: float = hyper(1.0, Float(0.01, 100.0, log=True), "λ to start from")
    scale: float = hyper(
        10.0, Float(0.1, 100.0, log=True), "α to start from where ridge regression classifies"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "penalty", "scale")
        self.at_least(1, "newton_steps")


@dataclass(frozen=True)
class R2D2(Learner[R2D2Hyper]):
    """Meta-parameters: ``encoder.*``; ``log_penalty``, ``scale`` and ``offset``, numbers.

    The penalty is kept as its logarithm, so that it stays positive.
    """

    paper: ClassVar[str] = "Bertinetto, Henriques, Torr, Vedaldi 2019, arXiv:1805.08136"
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION, REGRESSION})
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = R2D2Hyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        # Regression onto one-hot labels needs a scale to become logits; the outputs of a logistic
        # regression are logits and those of a regression the targets' own, so they start at 1.
        one_hot = self.problem == CLASSIFICATION and self.hyper.solver == RIDGE
        return {
            **prefixed("encoder", self.encoder.init(generator)),
            LOG_PENALTY: torch.tensor(math.log(self.hyper.penalty)),
            SCALE: torch.tensor(self.hyper.scale if one_hot else 1.0),
            OFFSET: torch.tensor(0.0),
        }

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """The weights W [features + 1, N] (regression: D), the last row the biases."""
        x = with_one(self.encoder(under("encoder", params), support_x))
        penalty = params[LOG_PENALTY].exp()
        if self.problem == REGRESSION:
            return ridge(x, support_y, penalty)
        one_hot = members(support_y, ways).T.to(x.dtype)
        if self.hyper.solver == LOGISTIC:
            return logistic(x, one_hot, penalty, self.hyper.newton_steps)
        return ridge(x, one_hot, penalty)

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        """α · X W + β (section 3.2)."""
        x = with_one(self.encoder(under("encoder", params), query_x))
        return params[SCALE] * (x @ fast) + params[OFFSET]


def with_one(features: Tensor) -> Tensor:
    """A constant feature for the bias, as in the paper's code; it is penalised like the others."""
    return F.pad(features, (0, 1), value=1.0)


def ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """argmin over W of ‖X W − Y‖² + λ ‖W‖² by the smaller of the two linear systems.

    Shapes: ``x`` […, n, d]; ``y`` […, n, N] → […, d, N].
    """
    return dual_ridge(x, y, penalty) if x.shape[-2] < x.shape[-1] else primal_ridge(x, y, penalty)


def primal_ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """The normal equations: (Xᵀ X + λ I)⁻¹ Xᵀ Y, a d × d system."""
    return _inverse(x.mT @ x + penalty * eye(x.shape[-1], x)) @ (x.mT @ y)


def dual_ridge(x: Tensor, y: Tensor, penalty: Tensor) -> Tensor:
    """The same by Woodbury's identity: Xᵀ (X Xᵀ + λ I)⁻¹ Y, an n × n system."""
    return x.mT @ (_inverse(x @ x.mT + penalty * eye(x.shape[-2], x)) @ y)


def _inverse(matrix: Tensor) -> Tensor:
    """Torch's solvers wait for a GPU, and can't be recorded there; this doesn't look for errors."""
    inverse: Tensor = torch.linalg.inv_ex(matrix).inverse
    return inverse


def logistic(x: Tensor, one_hot: Tensor, penalty: Tensor, steps: int) -> Tensor:
    """Newton's steps from 0 on the logistic loss of each class against all others, plus λ/2 ‖w‖².

    A step is a ridge regression onto z = X w + (y − μ) / s with weights s = μ (1 − μ). Here it is
    one on rows multiplied by √s, where the paper adds λ S⁻¹ to the kernel matrix: the same, but
    nothing is divided by a small s.

    Shapes: ``x`` [n, d]; ``one_hot`` [n, N] → [d, N].
    """
    y = one_hot.mT[..., None]
    weights = x.new_zeros(())
    logits = torch.zeros_like(y)
    for _ in range(steps):
        mean = logits.sigmoid()
        root = (mean * (1 - mean)).clamp_min(LEAST_CURVATURE).sqrt()
        weights = ridge(root * x, root * logits + (y - mean) / root, penalty)
        logits = x @ weights
    return weights[..., 0].mT


def eye(size: int, like: Tensor) -> Tensor:
    """The identity matrix, of the dtype and on the device of another tensor."""
    return torch.eye(size, dtype=like.dtype, device=like.device)
