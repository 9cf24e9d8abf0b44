"""MAML: an initialization from which a few gradient steps solve a new task.

C. Finn, P. Abbeel, S. Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, https://arxiv.org/abs/1703.03400

The inner loop (equation 1) takes gradient steps on a task's support set from the shared
initialization θ; the outer loop (equation 2) moves θ along the gradient of the adapted network's
query loss, through those steps (``order="second"``) or with the inner gradients taken as constants
(``order="first"``, section 5.2). The inner rate may differ from step to step and layer to layer.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from .base import (
    CLASSIFICATION,
    REGRESSION,
    Hyper,
    Learner,
    Params,
    initial_parameters,
    prefixed,
    under,
)
from .domains import Choice, Int, Rates, hyper
from .rates import RateVector, group_index

HEAD = ("head.weight", "head.bias")
INNER_LR = "inner_lr"


@dataclass(frozen=True)
class MAMLHyper(Hyper):
    """The inner loop. Defaults are the paper's for Omniglot, 20-way: 5 steps of 0.1 (appendix A.1).

    There it also gives 1 step of 0.4 (Omniglot, 5-way) and 5 of 0.01 (mini-ImageNet).
    """

    inner_steps: int = hyper(5, Int(1, 5), "gradient steps on the support set")
    order: str = hyper(
        "second",
        Choice(("first", "second")),
        "whether to differentiate through the inner gradients",
    )
    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.1,),)),
        Rates(1e-3, 1.0),
        "rate of each inner step",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.inner_steps < 1:
            raise ValueError(f"inner_steps is {self.inner_steps}, but must be at least 1")


@dataclass(frozen=True)
class MAML(Learner[MAMLHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; ``inner_lr``."""

    paper: ClassVar[str] = "Finn, Abbeel, Levine 2017, arXiv:1703.03400"
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION, REGRESSION})
    hyper_type: ClassVar[type[Hyper]] = MAMLHyper

    @classmethod
    def fast_parameters(cls, encoder_parameters: Sequence[str]) -> list[str]:
        return [*encoder_parameters, *HEAD]

    def init(self, ways: int, generator: torch.Generator) -> Params:
        with torch.device("meta"):
            head = nn.Linear(self.encoder.features, ways)
        rates = self.hyper.inner_lr.tensor(self.hyper.inner_steps, self._rated)
        return {
            **prefixed("encoder", self.encoder.init(generator)),
            **prefixed("head", initial_parameters(head, generator)),
            INNER_LR: rates,
        }

    def learned(self, params: Params) -> frozenset[str]:
        fixed = set() if self.hyper.inner_lr.mode == "learned" else {INNER_LR}
        return frozenset(params) - fixed

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights: all parameters but the rates, after the inner loop (equation 1).

        Raises:
            ValueError: The task has other ways than the head.
        """
        self._check_ways(params, ways)
        rates = params[INNER_LR]
        columns = group_index(self._rated, self.hyper.inner_lr.groups)
        fast = {name: value for name, value in params.items() if name != INNER_LR}

        def support_loss(fast: Params) -> Tensor:
            return self.loss(self.predict(params, fast, support_x), support_y)

        for step in range(self.hyper.inner_steps):
            grads = grad(support_loss)(self._point(fast))
            fast = {
                name: value - rates[step, columns[name.removeprefix("encoder.")]] * grads[name]
                for name, value in fast.items()
            }
        return fast

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        features = self.encoder(under("encoder", fast), query_x)
        return F.linear(features, fast["head.weight"], fast["head.bias"])

    def _point(self, fast: Params) -> Params:
        """Where to take the inner gradient; first order: nothing upstream hears of it."""
        if self.hyper.order == "second":
            return fast
        return {name: value.detach() for name, value in fast.items()}

    @property
    def _rated(self) -> list[str]:
        names = [name for name, _ in self.encoder.module.named_parameters()]
        return self.fast_parameters(names)

    def _check_ways(self, params: Params, ways: int) -> None:
        trained = params["head.weight"].shape[0]
        if ways != trained:
            raise ValueError(
                f"the task has {ways} ways, but this head was trained for {trained}: "
                f"give tasks of {trained} ways, or use a learner that serves any number"
            )
