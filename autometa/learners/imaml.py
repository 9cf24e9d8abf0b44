"""iMAML: MAML whose meta-gradient depends on where the inner loop ends, not on how it got there.

A. Rajeswaran, C. Finn, S. Kakade, S. Levine: "Meta-Learning with Implicit Gradients", NeurIPS 2019,
https://arxiv.org/abs/1909.04630

A task's weights φ minimise its support loss plus λ/2 ‖φ − θ‖², a pull towards the initialization θ
(equation 3), here by gradient steps. At the minimum dφ/dθ = (I + ∇²L(φ)/λ)⁻¹ (lemma 1), so the
meta-gradient is the solution of one symmetric linear system whose right-hand side is the gradient
of the query loss in φ. A few steps of conjugate gradients solve it by Hessian-vector products
(algorithm 2). No step of the inner loop is kept: memory doesn't grow with their number.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.func import vjp

from .base import START, Hyper, Moment, Params, Task
from .domains import Float, Int, hyper
from .gradients import gradient
from .inner_loop import SteppedLearner, StepsHyper, flatten, unflatten, weights_of


@dataclass(frozen=True)
class IMAMLHyper(StepsHyper):
    """The inner problem and how exactly it and the linear system are solved.

    Steps of both kinds are the paper's for Omniglot, 5-way (table 2), the rate is that of the
    authors' code. λ is 2 in both, but in the code pulls in a single step after the sixteen and not
    in testing; in each of them, as the method has it, 0.5 lets weights go about as far. A gradient
    step is stable only while its rate is below 2 / (λ + curvature of the loss): the domains of
    ``inner_lr`` and ``penalty`` stay on that side as far as λ goes. The rate isn't meta-learned,
    since the minimum doesn't depend on it.
    """

    inner_steps: int = hyper(16, Int(5, 50), "gradient steps on the support set")
    inner_lr: float = hyper(0.1, Float(1e-3, 0.1, log=True), "rate of these steps")
    penalty: float = hyper(0.5, Float(0.1, 10.0, log=True), "λ, the pull to the initialization")
    cg_steps: int = hyper(5, Int(1, 10), "steps of conjugate gradients for the meta-gradient")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "cg_steps")
        self.above(0, "inner_lr", "penalty")


@dataclass(frozen=True)
class IMAML(SteppedLearner[IMAMLHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]."""

    paper: ClassVar[str] = "Rajeswaran, Finn, Kakade, Levine 2019, arXiv:1909.04630"
    hyper_type: ClassVar[type[Hyper]] = IMAMLHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        return self.network_parameters(ways, generator)

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """Gradient steps on L(φ) + λ/2 ‖φ − θ‖² from φ = θ (equation 3).

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        rate, penalty = self.hyper.inner_lr, self.hyper.penalty
        start = weights_of(params)
        fast = start
        for _ in range(self.hyper.adaptation_steps):
            grads = self.support_grads(fast, support_x, support_y, through=True)
            fast = {
                name: value - rate * (grads[name] + penalty * (value - start[name]))
                for name, value in fast.items()
            }
        return fast

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        """(I + ∇²L(φ)/λ)⁻¹ ∇L_query(φ) where the inner loop ended, by ``cg_steps`` (algorithm 2).

        It is the derivative of the objective as far as the inner loop reaches the minimum and the
        conjugate gradients the solution (theorem 1). The authors' code damps the system: it has
        2 I + ∇²L(φ)/(λ + 10).
        """
        with torch.no_grad():
            fast = self.at(moment).adapt(params, task.support_x, task.support_y, task.ways)

            def query_loss(fast: Params) -> tuple[Tensor, Tensor]:
                prediction = self.predict(params, fast, task.query_x)
                return self.loss(prediction, task.query_y), prediction

            def support_grads(fast: Params) -> Params:
                return self.support_grads(fast, task.support_x, task.support_y, through=True)

            grads, loss, prediction = gradient(query_loss, fast)
            # The Hessian is symmetric, so the vector-Jacobian product of ∇L is its product.
            hessian_product = vjp(support_grads, fast)[1]

            def system(vector: Tensor) -> Tensor:
                (product,) = hessian_product(unflatten(vector, fast))
                return vector + flatten(product) / self.hyper.penalty

            solution = conjugate_gradients(system, flatten(grads), self.hyper.cg_steps)
        metrics = {"loss": loss, "score": self.score(prediction, task.query_y)}
        return unflatten(solution, fast), metrics


def conjugate_gradients(system: Callable[[Tensor], Tensor], target: Tensor, steps: int) -> Tensor:
    """Approximate solution x of ``system(x) = target`` for a symmetric, positive definite system.

    The number of products is fixed, so that tasks can be batched. The paper assumes a positive
    definite I + ∇²L/λ, which a network's loss needn't give: where a direction has no positive
    curvature the iteration stays where it is, as in T. Steihaug's truncated form (SIAM Journal on
    Numerical Analysis, 1983), and ``target`` itself, MAML of first order, is the answer if that is
    the first. It also ends where the residual is down to rounding, before it is divided by.

    Shapes: ``target`` [P] → [P].
    """
    x, residual, direction = torch.zeros_like(target), target, target
    norm = residual @ residual
    going = norm >= 0
    rounding = torch.finfo(norm.dtype).eps ** 2 * norm
    for step in range(steps):
        product = system(direction)
        curvature = direction @ product
        going = going & (curvature > 0) & (norm > rounding)
        length = norm / torch.where(going, curvature, 1.0)
        x = x + torch.where(going, length, 1.0 if step == 0 else 0.0) * direction
        residual = residual - torch.where(going, length, 0.0) * product
        previous, norm = norm, residual @ residual
        conjugate = torch.where(going, norm / torch.where(going, previous, 1.0), 0.0)
        direction = residual + conjugate * direction
    return x
