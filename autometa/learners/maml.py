"""MAML: an initialization from which a few gradient steps solve a new task.

C. Finn, P. Abbeel, S. Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, https://arxiv.org/abs/1703.03400

The inner loop (algorithm 2, line 7) takes gradient steps on a task's support set from the shared
initialization θ; the outer loop (equation 1) moves θ along the gradient of the adapted network's
query loss, through those steps (``order="second"``) or with the inner gradients taken as constants
(``order="first"``, section 5.2), or with these first and through them later (``order="annealed"``).
The inner rate may differ from step to step and layer to layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Hyper, Params
from .inner_loop import OrderHyper, RatedLearner, weights_of


@dataclass(frozen=True)
class MAMLHyper(OrderHyper):
    """The inner loop, and how the outer loop sees it."""


@dataclass(frozen=True)
class MAML(RatedLearner[MAMLHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; ``inner_lr``."""

    paper: ClassVar[str] = "Finn, Abbeel, Levine 2017, arXiv:1703.03400"
    hyper_type: ClassVar[type[Hyper]] = MAMLHyper
    recomputes: ClassVar[bool] = True

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after the inner loop.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        through = self.hyper.second_order
        return self.inner_loop(params, weights_of(params), support_x, support_y, through=through)
