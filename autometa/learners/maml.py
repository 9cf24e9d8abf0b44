"""MAML: an initialization from which a few gradient steps solve a new task.

C. Finn, P. Abbeel, S. Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, https://arxiv.org/abs/1703.03400

The inner loop (equation 1) takes gradient steps on a task's support set from the shared
initialization θ; the outer loop (equation 2) moves θ along the gradient of the adapted network's
query loss, through those steps (``order="second"``) or with the inner gradients taken as constants
(``order="first"``, section 5.2). The inner rate may differ from step to step and layer to layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Hyper, Params
from .domains import Choice, hyper
from .inner_loop import INNER_LR, GradientLearner, InnerLoopHyper, descend, weights_of


@dataclass(frozen=True)
class MAMLHyper(InnerLoopHyper):
    """The inner loop, and how the outer loop sees it."""

    order: str = hyper(
        "second",
        Choice(("first", "second")),
        "whether to differentiate through the inner gradients",
    )


@dataclass(frozen=True)
class MAML(GradientLearner[MAMLHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; ``inner_lr``."""

    paper: ClassVar[str] = "Finn, Abbeel, Levine 2017, arXiv:1703.03400"
    hyper_type: ClassVar[type[Hyper]] = MAMLHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        rates = self.hyper.inner_lr.tensor(self.hyper.inner_steps, self.rated)
        return self.network_parameters(ways, generator) | {INNER_LR: rates}

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set() if self.hyper.inner_lr.mode == "learned" else {INNER_LR}
        return frozenset(params) - fixed

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after the inner loop (equation 1).

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        columns = self.columns(self.hyper.inner_lr.groups)
        through = self.hyper.order == "second"
        fast = weights_of(params)
        for rates in params[INNER_LR]:
            grads = self.support_grads(fast, support_x, support_y, through=through)
            fast = descend(fast, grads, rates, columns)
        return fast
