"""Training from scratch: no meta-learning, only the support set, from random weights.

The floor that every gradient-based meta-learner must clear, as in C. Finn, P. Abbeel, S. Levine,
ICML 2017, https://arxiv.org/abs/1703.03400 (section 5: a network that was never trained on other
tasks). Each task gets the same random weights and many full-batch gradient steps.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Hyper, Params
from .domains import Int, Rates, hyper
from .inner_loop import InnerLoopHyper, RatedLearner, weights_of
from .rates import RateVector


@dataclass(frozen=True)
class ScratchHyper(InnerLoopHyper):
    """As many steps as fit a handful of images; the outer loop's fields have no effect.

    To this baseline every task is a new one: ``evaluation_steps``, unless 0, are what it takes.
    """

    inner_steps: int = hyper(50, Int(10, 100), "gradient steps on the support set")
    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.05,),)),
        Rates(1e-3, 1.0, groups=("scalar",), modes=("searched",)),
        "rate of each step",
    )


@dataclass(frozen=True)
class Scratch(RatedLearner[ScratchHyper]):
    """Nothing is meta-learned: ``encoder.*``, ``head.*`` and ``inner_lr`` stay as drawn."""

    paper: ClassVar[str] = "baseline without meta-learning"
    hyper_type: ClassVar[type[Hyper]] = ScratchHyper

    def learned(self, params: Params) -> frozenset[str]:
        return frozenset()

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The weights after gradient descent on the support set.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        return self.inner_loop(params, weights_of(params), support_x, support_y, through=False)
