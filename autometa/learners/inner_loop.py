"""What the gradient-based learners share: a network with a linear head, and steps on a support set.

The network is the encoder and one linear layer; its weights are the meta-parameters ``encoder.*``
and ``head.*``. C. Finn et al., ICML 2017, algorithm 2, line 7, is the step.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import ClassVar, Self, TypeVar

import torch
from torch import Tensor, nn

from .base import (
    CLASSIFICATION,
    REGRESSION,
    H,
    Hyper,
    Learner,
    Moment,
    Params,
    check_ways,
    initial_parameters,
    linear,
    prefixed,
    under,
)
from .domains import Choice, Float, Int, Rates, hyper
from .gradients import inner_gradient
from .rates import RateVector, group_index, step_rows
from .recompute import recomputed, unrolled

HEAD = ("head.weight", "head.bias")
INNER_LR = "inner_lr"
ORDERS = Choice(("first", "second"), ("annealed",))


@dataclass(frozen=True)
class StepsHyper(Hyper):
    """Gradient steps on the support set: in meta-training, and of a new task afterwards."""

    inner_steps: int = hyper(5, Int(1, 5), "gradient steps on the support set")
    evaluation_steps: int = hyper(
        0, Int(0, 0), "steps on the support set of a new task; 0: as many as in meta-training"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "inner_steps")
        self.at_least(0, "evaluation_steps")

    @property
    def adaptation_steps(self) -> int:
        """Steps on the support set of a new task."""
        return self.evaluation_steps or self.inner_steps

    @property
    def second_order(self) -> bool:
        """Whether to differentiate through the inner gradients."""
        return True

    def at(self, moment: Moment) -> Self:
        """As it is at a moment of meta-training: a task has the steps of meta-training."""
        return replace(self, evaluation_steps=0)


@dataclass(frozen=True)
class InnerLoopHyper(StepsHyper):
    """Steps that go by a rate vector. Defaults are MAML's for Omniglot, 20-way: 5 of 0.1.

    Its appendix A.1 also has 1 step of 0.4 (Omniglot, 5-way; 3 of them in evaluation) and 5 of 0.01
    (mini-ImageNet; 10 of them in evaluation).
    """

    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.1,),)),
        Rates(1e-3, 1.0),
        "rate of each inner step",
    )


T = TypeVar("T")
S = TypeVar("S", bound=StepsHyper)
R = TypeVar("R", bound=InnerLoopHyper)


def check_share(name: str, share: float) -> None:
    """Raise a ValueError unless a share of the budget is one."""
    if not 0 <= share <= 1:
        raise ValueError(f"{name} is {share}, but must be in [0, 1]")


def order_at(order: str, first_order_share: float, moment: Moment) -> str:
    """``annealed`` is first order for a share of the budget, then second.

    A. Antoniou et al., "How to train your MAML", ICLR 2019, section 4: derivative-order annealing.
    """
    if order != "annealed":
        return order
    return "first" if moment.progress < first_order_share else "second"


@dataclass(frozen=True)
class OrderHyper(InnerLoopHyper):
    """The inner loop, and how the outer loop sees it."""

    order: str = hyper("second", ORDERS, "whether to differentiate through the inner gradients")
    first_order_share: float = hyper(
        1 / 3,
        Float(1 / 3, 1 / 3),
        "share of the budget in first order, if order is annealed",
        batched=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        check_share("first_order_share", self.first_order_share)

    @property
    def second_order(self) -> bool:
        return self.order != "first"

    def at(self, moment: Moment) -> Self:
        order = order_at(self.order, self.first_order_share, moment)
        return replace(super().at(moment), order=order)


@dataclass(frozen=True)
class GradientLearner(Learner[H], ABC):
    """A network whose weights a task's support set moves; ``fast`` are the moved weights."""

    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION, REGRESSION})

    @classmethod
    def fast_parameters(cls, encoder_parameters: Sequence[str]) -> list[str]:
        return [*encoder_parameters, *HEAD]

    def network_parameters(self, ways: int, generator: torch.Generator) -> Params:
        """Fresh ``encoder.*`` and ``head.*``, [ways, features] and [ways]."""
        with torch.device("meta"):
            head = nn.Linear(self.encoder.features, ways)
        return {
            **prefixed("encoder", self.encoder.init(generator)),
            **prefixed("head", initial_parameters(head, generator)),
        }

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        return self.network(fast, query_x)

    def network(self, weights: Params, x: Tensor) -> Tensor:
        """Outputs [B, ways] of the encoder and the head."""
        return linear(weights, "head", self.encoder(under("encoder", weights), x))

    def support_loss(self, weights: Params, x: Tensor, y: Tensor) -> Tensor:
        """What the inner loop minimises."""
        return self.loss(self.network(weights, x), y)

    def support_grads(self, weights: Params, x: Tensor, y: Tensor, *, through: bool) -> Params:
        """Gradient of the support loss in the weights.

        Args:
            through: Whether it may itself be differentiated (second order), or is a constant.
        """

        def loss(weights: Params) -> Tensor:
            return self.support_loss(weights, x, y)

        return inner_gradient(loss, weights, through=through)

    @property
    def rated(self) -> list[str]:
        """Names of what a rate vector's columns are for, without ``encoder.``."""
        names = [name for name, _ in self.encoder.module.named_parameters()]
        return self.fast_parameters(names)

    def columns(self, groups: str) -> dict[str, int]:
        """Weight → its column in a rate vector of these groups."""
        index = group_index(self.rated, groups)
        return {name if name in HEAD else f"encoder.{name}": i for name, i in index.items()}

    def check_ways(self, params: Params, ways: int) -> None:
        """Raise a ValueError unless the head has as many outputs as the task has ways."""
        check_ways(ways, params["head.weight"].shape[-2], "head was trained for")


@dataclass(frozen=True)
class SteppedLearner(GradientLearner[S], ABC):
    """One whose steps on a new task may be other than in meta-training.

    Args:
        recompute: Whether the meta-gradient computes the steps again and doesn't keep them.

    Class attributes:
        recomputes: Whether it can.
    """

    recompute: bool = False

    recomputes: ClassVar[bool] = False

    def at(self, moment: Moment) -> Self:
        return replace(self, hyper=self.hyper.at(moment))

    def recomputing(self) -> Self | None:
        several = self.hyper.inner_steps > 1 and self.hyper.second_order
        return replace(self, recompute=True) if self.recomputes and several else None

    def spared(self, function: Callable[..., T]) -> Callable[..., T]:
        """A function of which a meta-gradient keeps all that it computes, or what it is given."""
        return partial(recomputed, function) if self.recompute else function


@dataclass(frozen=True)
class RatedLearner(SteppedLearner[R], ABC):
    """One whose inner steps go by a rate vector, the meta-parameter ``inner_lr``."""

    def init(self, ways: int, generator: torch.Generator) -> Params:
        return self.network_parameters(ways, generator) | {INNER_LR: self.initial_rates()}

    def initial_rates(self) -> Tensor:
        """The rate vector before meta-training, [steps, groups]."""
        return self.hyper.inner_lr.tensor(self.hyper.inner_steps, self.rated)

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set() if self.hyper.inner_lr.is_learned else {INNER_LR}
        return frozenset(params) - fixed

    def step_rates(self, params: Params) -> Iterator[Tensor]:
        """The rates [groups] of each step on a task."""
        return step_rows(params[INNER_LR], self.hyper.adaptation_steps)

    def inner_loop(
        self, params: Params, weights: Params, x: Tensor, y: Tensor, *, through: bool
    ) -> Params:
        """The weights after all steps on a support set; ``through`` as of :meth:`support_grads`."""
        columns = self.columns(self.hyper.inner_lr.groups)

        def step(weights: Params, rates: Tensor, x: Tensor, y: Tensor) -> Params:
            grads = self.support_grads(weights, x, y, through=through)
            return descend(weights, grads, rates, columns)

        recompute = self.recompute and through
        return unrolled(step, weights, self.step_rates(params), x, y, recompute=recompute)


def weights_of(params: Params) -> Params:
    """The network's own among the meta-parameters."""
    return {name: v for name, v in params.items() if name.startswith(("encoder.", "head."))}


def descend(weights: Params, grads: Params, rates: Tensor, columns: Mapping[str, int]) -> Params:
    """One step down: w − α g, with the rate α of each weight's column; ``rates`` [groups].

    Weights that have no gradient stay.
    """
    of_column = rates.unbind()
    return weights | {
        name: torch.addcmul(weights[name], of_column[columns[name]], g, value=-1)
        for name, g in grads.items()
    }


def flatten(tensors: Params) -> Tensor:
    """All numbers as one vector [P]."""
    return torch.cat([value.reshape(-1) for value in tensors.values()])


def unflatten(vector: Tensor, like: Params) -> Params:
    """The inverse of :func:`flatten`."""
    parts = torch.split(vector, [value.numel() for value in like.values()])
    named = zip(like.items(), parts, strict=True)
    return {name: part.reshape(value.shape) for (name, value), part in named}
