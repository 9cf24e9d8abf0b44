"""ALFA: a small network sets the rate and the weight decay of every inner step from its state.

S. Baik, M. Choi, J. Choi, H. Kim, K. M. Lee: "Meta-Learning with Adaptive Hyperparameters",
NeurIPS 2020, https://arxiv.org/abs/2011.00209

The inner step becomes θ ← β ⊙ θ − α ⊙ ∇L, the step on a loss with an l2 penalty. A generator g_φ
with one hidden layer makes α and β of every layer anew in each step and task, from the layers' mean
weights and mean gradients. The outer loop learns the generator, and with it the initialization
(ALFA+MAML), which may also stay as it was drawn: then learning to adapt is all there is.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Hyper, Moment, Params, initial_parameters, linear, prefixed
from .domains import Choice, Float, hyper
from .inner_loop import (
    INNER_LR,
    ORDERS,
    SteppedLearner,
    StepsHyper,
    check_share,
    descend,
    order_at,
    weights_of,
)
from .rates import group_names, step_rows
from .recompute import unrolled

INNER_DECAY = "inner_decay"


@dataclass(frozen=True)
class ALFAHyper(StepsHyper):
    """Where the outer loop starts, and what it learns.

    Defaults are the reference code's, but for ``groups``: the paper's layers.
    """

    inner_lr: float = hyper(
        0.01, Float(1e-3, 1.0, log=True), "factor of the generated rates, where learning starts"
    )
    weight_decay: float = hyper(
        5e-4,
        Float(1e-5, 1e-1, log=True),
        "times inner_lr, the factor of the generated decay, where learning starts",
    )
    groups: str = hyper(
        "layer", Choice(("layer", "parameter")), "what has a rate and a decay of its own"
    )
    initialization: str = hyper(
        "learned", Choice(("learned", "random")), "whether the outer loop moves the initialization"
    )
    order: str = hyper("second", ORDERS, "whether to differentiate through the inner gradients")
    first_order_share: float = hyper(
        1 / 3,
        Float(1 / 3, 1 / 3),
        "share of the budget in first order, if order is annealed",
        batched=False,
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "inner_lr")
        self.at_least(0, "weight_decay")
        check_share("first_order_share", self.first_order_share)

    @property
    def second_order(self) -> bool:
        return self.order != "first"

    def at(self, moment: Moment) -> Self:
        order = order_at(self.order, self.first_order_share, moment)
        return replace(super().at(moment), order=order)


@dataclass(frozen=True)
class ALFA(SteppedLearner[ALFAHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; the rest below.

    ``generator.0.*`` and ``generator.2.*``, the weights φ of two linear layers [2G, 2G];
    ``inner_lr`` and ``inner_decay``, [steps, G], the factors α⁰ and β⁰ of what it generates; to a
    random initialization also ``decay.*``, a factor of the decay for each weight of the network.
    """

    paper: ClassVar[str] = "Baik, Choi, Choi, Kim, Lee 2020, arXiv:2011.00209"
    hyper_type: ClassVar[type[Hyper]] = ALFAHyper
    recomputes: ClassVar[bool] = True

    def init(self, ways: int, generator: torch.Generator) -> Params:
        network = self.network_parameters(ways, generator)
        groups = len(group_names(self.rated, self.hyper.groups))
        with torch.device("meta"):
            layers = nn.Sequential(
                nn.Linear(2 * groups, 2 * groups), nn.ReLU(), nn.Linear(2 * groups, 2 * groups)
            )
        params = network | prefixed("generator", initial_parameters(layers, generator))
        rates = torch.full((self.hyper.inner_steps, groups), self.hyper.inner_lr)
        decay = self.hyper.weight_decay * self.hyper.inner_lr
        if self.hyper.initialization == "random":
            # The paper doesn't have a decay of each weight; its reference code does.
            own = {name: torch.full_like(value, decay) for name, value in network.items()}
            params |= prefixed("decay", own) | {INNER_DECAY: torch.ones_like(rates)}
        else:
            params |= {INNER_DECAY: torch.full_like(rates, decay)}
        return params | {INNER_LR: rates}

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set(weights_of(params)) if self.hyper.initialization == "random" else set()
        return frozenset(params) - fixed

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after the inner loop (algorithm 1).

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        columns = self.columns(self.hyper.groups)
        through = self.hyper.second_order
        fast = weights_of(params)
        steps = self.hyper.adaptation_steps
        factors = (step_rows(params[name], steps) for name in (INNER_LR, INNER_DECAY))

        def step(
            fast: Params, factors: tuple[Tensor, Tensor], params: Params, x: Tensor, y: Tensor
        ) -> Params:
            rates, decays = factors
            grads = self.support_grads(fast, x, y, through=through)
            alpha, beta = self.generate(params, fast, grads)
            fast = self.decayed(params, fast, decays * beta)
            return descend(fast, grads, rates * alpha, columns)

        given = params, support_x, support_y
        recompute = self.recompute and through
        return unrolled(step, fast, zip(*factors, strict=True), *given, recompute=recompute)

    def generate(self, params: Params, weights: Params, grads: Params) -> tuple[Tensor, Tensor]:
        """g_φ(τ): the factors of rates and decays, [G] each.

        The state τ, [2G], are the means of weights and of gradients. We differentiate through both
        of them; the reference code takes the gradients in τ as constants.
        """
        state = torch.cat([self.means(weights), self.means(grads)])
        hidden = F.relu(linear(params, "generator.0", state))
        alpha, beta = linear(params, "generator.2", hidden).chunk(2)
        return alpha, beta

    def means(self, tensors: Params) -> Tensor:
        """Mean [G] over all numbers of a group: the paper's layers, or parameter tensors.

        The reference code has the latter, and doesn't adapt batch norms, which are part of a layer
        here as in MAML.
        """
        columns = self.columns(self.hyper.groups)
        members: dict[int, list[Tensor]] = {}
        for name, column in columns.items():
            members.setdefault(column, []).append(tensors[name].flatten())
        return torch.stack([torch.cat(members[column]).mean() for column in sorted(members)])

    def decayed(self, params: Params, weights: Params, decays: Tensor) -> Params:
        """β ⊙ θ with β = 1 − β⁰ g_φ(τ), as in the reference code; ``decays`` [G] is its β⁰ g."""
        columns = self.columns(self.hyper.groups)
        shrunk = {}
        for name, value in weights.items():
            decay = decays[columns[name]]
            own = params.get(f"decay.{name}")
            shrunk[name] = (1 - (decay if own is None else own * decay)) * value
        return shrunk
