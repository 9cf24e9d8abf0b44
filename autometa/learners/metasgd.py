"""Meta-SGD: learn the initialization and, for each of its numbers, the rate of the inner step.

Z. Li, F. Zhou, F. Chen, H. Li: "Meta-SGD: Learning to Learn Quickly for Few-Shot Learning", 2017,
https://arxiv.org/abs/1707.09835

A task's support set moves the weights by one step θ' = θ − α ∘ ∇L(θ) (equation 2), where α has the
shape of θ and ∘ multiplies number by number: it holds the direction of the update as well as its
length, and may turn negative. The outer loop learns θ and α together, along the gradient of the
query loss at θ' (equation 3), second derivatives included.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import Hyper, Params, prefixed, under
from .domains import Float, Int, hyper
from .inner_loop import SteppedLearner, StepsHyper, weights_of
from .recompute import unrolled

RATES = "rates"


@dataclass(frozen=True)
class MetaSGDHyper(StepsHyper):
    """The inner step: in the paper a single one, of rates that begin somewhere in [0.005, 0.1]."""

    inner_steps: int = hyper(1, Int(1, 5), "gradient steps on the support set, of the same rates")
    initial_rate: float = hyper(0.05, Float(0.005, 0.1), "all inner rates before meta-training")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "initial_rate")


@dataclass(frozen=True)
class MetaSGD(SteppedLearner[MetaSGDHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``; ``rates.<name>`` of each, in the same shape.

    All rates begin equal, which makes the start that of MAML.
    """

    paper: ClassVar[str] = "Li, Zhou, Chen, Li 2017, arXiv:1707.09835"
    hyper_type: ClassVar[type[Hyper]] = MetaSGDHyper
    recomputes: ClassVar[bool] = True

    def init(self, ways: int, generator: torch.Generator) -> Params:
        weights = self.network_parameters(ways, generator)
        start = self.hyper.initial_rate
        rates = {name: torch.full_like(value, start) for name, value in weights.items()}
        return weights | prefixed(RATES, rates)

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights θ' (equation 2).

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)

        def step(fast: Params, _: int, rates: Params, x: Tensor, y: Tensor) -> Params:
            grads = self.support_grads(fast, x, y, through=True)
            return {name: fast[name] - rates[name] * g for name, g in grads.items()}

        given = under(RATES, params), support_x, support_y
        steps = range(self.hyper.adaptation_steps)
        return unrolled(step, weights_of(params), steps, *given, recompute=self.recompute)
