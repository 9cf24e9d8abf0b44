"""MetaOptNet: a task's head is a multi-class support vector machine, differentiated by its optimum.

K. Lee, S. Maji, A. Ravichandran, S. Soatto: "Meta-Learning with Differentiable Convex
Optimization", CVPR 2019, https://arxiv.org/abs/1904.03758

The embedded support set trains a linear SVM of Crammer and Singer; its dual is a quadratic program
in n · N numbers whatever the number of features (equation 10). An interior point method solves it,
and the gradient goes through the optimality (KKT) conditions rather than through the iterations,
as in OptNet (section 3.3). The encoder and a scale of the logits are learned from the query loss
(equation 12) with smoothed labels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import SCHEDULES, Hyper, Learner, Moment, Params, Task, members, prefixed, under
from .domains import Choice, Float, Int, hyper

SCALE = "scale"
TO_BOUNDARY = 0.99
BARRIER = 1e-9
REFINEMENTS = 2


@dataclass(frozen=True)
class MetaOptNetHyper(Hyper):
    """The machine and its training; defaults are the paper's and its code's (section 4.1).

    The paper trains on 8 episodes a step by SGD whose rate falls three times; of the outer loop's
    schedules the cosine is nearest. It smooths labels on mini-ImageNet only. Its solver, qpth,
    stops after 3 iterations, and after 15 in the code; here 15 reach the optimum unless C times the
    squared length of the features is far above 100.
    """

    meta_batch: int = hyper(8, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("cosine", SCHEDULES, "course of the outer rate over the budget")
    cost: float = hyper(
        0.1, Float(1e-3, 10.0, log=True), "C, the price of a margin missed by 1", batched=False
    )
    scale: float = hyper(1.0, Float(0.1, 30.0, log=True), "factor of the logits to start from")
    smoothing: float = hyper(
        0.1,
        Float(0.0, 0.3),
        "share of a query's label that goes to the other classes in training",
        batched=False,
    )
    solver_steps: int = hyper(15, Int(10, 30), "interior point iterations")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "cost", "scale")
        if not 0 <= self.smoothing < 1:
            raise ValueError(f"smoothing is {self.smoothing}, but must be in [0, 1)")
        self.at_least(1, "solver_steps")


@dataclass(frozen=True)
class MetaOptNet(Learner[MetaOptNetHyper]):
    """Meta-parameters: ``encoder.*``; ``scale``, a number."""

    paper: ClassVar[str] = "Lee, Maji, Ravichandran, Soatto 2019, arXiv:1904.03758"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = MetaOptNetHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | {SCALE: torch.tensor(self.hyper.scale)}

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """The weights [N, features] of the machine, which has no biases."""
        x = self.encoder(under("encoder", params), support_x)
        one_hot = members(support_y, ways).T.to(x.dtype)
        # In single precision an interior point method gets to a few digits only.
        kernel = x.double() @ x.double().T
        dual = support_vectors(kernel, one_hot.double(), self.hyper.cost, self.hyper.solver_steps)
        return dual.T.to(x.dtype) @ x

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        """Scaled scores w_k · f(x)."""
        return params[SCALE] * F.linear(self.encoder(under("encoder", params), query_x), fast)

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Cross-entropy with labels of 1 − ε at the class and ε / (N − 1) at each other."""
        fast = self.adapt(params, task.support_x, task.support_y, task.ways)
        logits = self.predict(params, fast, task.query_x)
        # Torch gives ε' / N to every class, the right one included: ε' = ε N / (N − 1).
        share = self.hyper.smoothing * task.ways / max(1, task.ways - 1)
        return F.cross_entropy(logits, task.query_y, label_smoothing=min(1.0, share)), logits


class Point(NamedTuple):
    """Where an interior point method stands.

    Attributes:
        room: u = C Y − α ≥ 0, [N, n].
        price: The multipliers s ≥ 0 of u ≥ 0, [N, n].
        level: The multipliers ν of Σ_k u = C, [n].
    """

    room: Tensor
    price: Tensor
    level: Tensor


def support_vectors(kernel: Tensor, one_hot: Tensor, cost: float, steps: int) -> Tensor:
    """The dual variables α [n, N] of Crammer and Singer's machine, differentiable in the kernel.

    They minimise ½ Σ_k α_kᵀ K α_k − Σ_i α_i,y(i) with α_ik ≤ C [k = y(i)] and Σ_k α_ik = 0
    (equation 10; the authors' code adds the identity to K). In u = C Y − α a sample's row is a
    point of a simplex. What is found is the optimum under a logarithmic barrier that is 1e-9 of
    what u and s are at most, and smooth in the kernel; from there, taken as a constant, one more
    Newton step has the derivative of the implicit function theorem.

    Shapes: ``kernel`` [n, n]; ``one_hot`` [n, N].
    """
    labels = one_hot.T
    # A start that is feasible and near the path's centre: u uniform, s = ∇f + ν positive.
    uniform = torch.full_like(labels, cost / len(labels))
    slope = _slope(kernel, labels, cost, uniform)
    margin = 1 + slope.amax() - slope.amin()
    barrier = BARRIER * cost / margin  # u of support vectors falls like 1 / K when C K is large
    still, goal = kernel.detach(), barrier.detach()
    level = (margin - slope.amin(0)).detach()
    point = Point(uniform, slope.detach() + level, level)
    for _ in range(steps):
        point = _iterate(point, still, labels, cost, goal)
    newton = _newton(point, still, cost)
    slope = _slope(kernel, labels, cost, point.room)
    move = newton(slope, point.room * point.price - barrier)
    return (cost * labels - point.room - move.room).T


def _slope(kernel: Tensor, labels: Tensor, cost: float, room: Tensor) -> Tensor:
    """Gradient of the dual objective in u: Y − K α."""
    return labels - (cost * labels - room) @ kernel


def _iterate(point: Point, kernel: Tensor, labels: Tensor, cost: float, barrier: Tensor) -> Point:
    """One iteration of Mehrotra's predictor and corrector (SIAM Journal on Optimization, 1992)."""
    newton = _newton(point, kernel, cost)
    slope = _slope(kernel, labels, cost, point.room)
    gap = point.room * point.price
    predictor = newton(slope, gap)
    reach = _step(point, predictor)
    ahead = (point.room + reach * predictor.room) * (point.price + reach * predictor.price)
    centring = (ahead.mean() / gap.mean()) ** 3
    target = centring * gap.mean()
    # At the barrier the steps are Newton's alone: a correction would make them rest elsewhere.
    curved = torch.where(target > barrier, predictor.room * predictor.price, 0.0)
    move = newton(slope, gap + curved - torch.maximum(target, barrier))
    length = TO_BOUNDARY * _step(point, move)
    return Point(*(here + length * there for here, there in zip(point, move, strict=True)))


def _newton(point: Point, kernel: Tensor, cost: float) -> Callable[[Tensor, Tensor], Point]:
    """The Newton step of the KKT conditions at a point, given the slope and the gap to close.

    K Δu_k − Δs_k + Δν = s_k − slope_k − ν;  s Δu + u Δs = −gap;  Σ_k Δu_k = C − Σ_k u_k.
    Eliminating Δs leaves a block K + s/u for each class, so N systems of n × n and one for ν. Where
    K has not full rank and s/u is small a block is nearly singular, so solutions are refined.
    """
    room, price, level = point
    ratio = price / room
    # Unchecked, so that a diverging encoder gives NaN and not an exception.
    inverse: Tensor = torch.linalg.inv_ex(kernel + torch.diag_embed(ratio)).inverse
    shared: Tensor = torch.linalg.inv_ex(inverse.sum(0)).inverse

    def reduced(right: Tensor, missing: Tensor) -> tuple[Tensor, Tensor]:
        alone = (inverse @ right[..., None])[..., 0]
        shift = shared @ (alone.sum(0) - missing)
        return alone - shift @ inverse, shift

    def solve(slope: Tensor, gap: Tensor) -> Point:
        right = -slope - level - (gap - room * price) / room
        missing = cost - room.sum(0)
        move, shift = reduced(right, missing)
        for _ in range(REFINEMENTS):
            error = right - move @ kernel - ratio * move - shift
            more, further = reduced(error, missing - move.sum(0))
            move, shift = move + more, shift + further
        return Point(move, -(gap + price * move) / room, shift)

    return solve


def _step(point: Point, move: Point) -> Tensor:
    """How far to go, at most 1, before a room or a price falls below 0."""
    here = torch.cat([point.room, point.price])
    there = torch.cat([move.room, move.price])
    reach = torch.where(there < 0, here / -torch.where(there < 0, there, -1.0), 1.0)
    return reach.amin().clamp(max=1.0)
