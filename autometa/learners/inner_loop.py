"""What the gradient-based learners share: a network with a linear head, and steps on a support set.

The network is the encoder and one linear layer; its weights are the meta-parameters ``encoder.*``
and ``head.*``. C. Finn et al., ICML 2017, equation 1, is the step.
"""

from __future__ import annotations

from abc import ABC
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import grad

from .base import (
    CLASSIFICATION,
    REGRESSION,
    H,
    Hyper,
    Learner,
    Params,
    initial_parameters,
    prefixed,
    under,
)
from .domains import Int, Rates, hyper
from .rates import RateVector, group_index

HEAD = ("head.weight", "head.bias")
INNER_LR = "inner_lr"


@dataclass(frozen=True)
class InnerLoopHyper(Hyper):
    """Gradient steps on the support set. Defaults are MAML's for Omniglot, 20-way: 5 of 0.1.

    There it also gives 1 step of 0.4 (Omniglot, 5-way) and 5 of 0.01 (mini-ImageNet), appendix A.1.
    """

    inner_steps: int = hyper(5, Int(1, 5), "gradient steps on the support set")
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
        features = self.encoder(under("encoder", weights), x)
        return F.linear(features, weights["head.weight"], weights["head.bias"])

    def support_grads(self, weights: Params, x: Tensor, y: Tensor, *, through: bool) -> Params:
        """Gradient of the support loss in the weights.

        Args:
            through: Whether it may itself be differentiated (second order), or is a constant.
        """

        def support_loss(weights: Params) -> Tensor:
            return self.loss(self.network(weights, x), y)

        here = weights if through else {name: value.detach() for name, value in weights.items()}
        grads: Params = grad(support_loss)(here)
        return grads

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
        trained = params["head.weight"].shape[0]
        if ways != trained:
            raise ValueError(
                f"the task has {ways} ways, but this head was trained for {trained}: "
                f"give tasks of {trained} ways, or use a learner that serves any number"
            )


def weights_of(params: Params) -> Params:
    """The network's own among the meta-parameters."""
    return {name: v for name, v in params.items() if name.startswith(("encoder.", "head."))}


def descend(weights: Params, grads: Params, rates: Tensor, columns: Mapping[str, int]) -> Params:
    """One step down: w − α g, with the rate α of each weight's column; ``rates`` [groups].

    Weights that have no gradient stay.
    """
    moved = {name: weights[name] - rates[columns[name]] * g for name, g in grads.items()}
    return weights | moved
