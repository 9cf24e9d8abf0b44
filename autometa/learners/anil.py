"""ANIL: MAML whose inner loop adapts the head alone.

A. Raghu, M. Raghu, S. Bengio, O. Vinyals: "Rapid Learning or Feature Reuse? Towards Understanding
the Effectiveness of MAML", ICLR 2020, https://arxiv.org/abs/1909.09157

MAML hardly moves the features of its body, and does as well without moving them at all. "Almost No
Inner Loop" (section 4) therefore takes the gradient steps of a task in the last layer only, in
training and in testing; the outer loop learns body and head through them, as in MAML. The body is
run once on a support set, however many steps there are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from .base import Hyper, Params, linear, under
from .gradients import inner_gradient
from .inner_loop import HEAD, OrderHyper, RatedLearner, descend


@dataclass(frozen=True)
class ANILHyper(OrderHyper):
    """The inner loop of the head, and how the outer loop sees it; the defaults are MAML's.

    The paper compares with MAML at equal settings, and is of second order.
    """


@dataclass(frozen=True)
class ANIL(RatedLearner[ANILHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways]; ``inner_lr``."""

    paper: ClassVar[str] = "Raghu, Raghu, Bengio, Vinyals 2020, arXiv:1909.09157"
    hyper_type: ClassVar[type[Hyper]] = ANILHyper

    @classmethod
    def fast_parameters(cls, encoder_parameters: Sequence[str]) -> list[str]:
        """The head's alone, so a rate vector has columns for nothing else."""
        return list(HEAD)

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast head, ``head.weight`` [ways, features] and ``head.bias`` [ways].

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        columns = self.columns(self.hyper.inner_lr.groups)
        through = self.hyper.second_order
        features = self.encoder(under("encoder", params), support_x)
        features = features if through else features.detach()

        def support_loss(head: Params) -> Tensor:
            return self.loss(linear(head, "head", features), support_y)

        fast = {name: params[name] for name in HEAD}
        for rates in self.step_rates(params):
            grads = inner_gradient(support_loss, fast, through=through)
            fast = descend(fast, grads, rates, columns)
        return fast

    def predict(self, params: Params, fast: Params, query_x: Tensor) -> Tensor:
        """Outputs [Q, ways] of the fast head on features that no task changes."""
        return linear(fast, "head", self.encoder(under("encoder", params), query_x))
