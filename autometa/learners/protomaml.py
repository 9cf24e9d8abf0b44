"""Proto-MAML: MAML whose head begins as a prototypical network.

E. Triantafillou et al.: "Meta-Dataset: A Dataset of Datasets for Learning to Learn from Few
Examples", ICLR 2020, https://arxiv.org/abs/1903.03096

With squared Euclidean distances a prototypical network is a linear classifier on the features,
W_k = 2 c_k and b_k = −‖c_k‖², up to a number that a query's logits share. Proto-MAML makes this the
head that a task begins with, then takes MAML's steps in encoder and head. The outer gradient also
goes through the prototypes. As no head is learned, one encoder serves any number of ways.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import CLASSIFICATION, Hyper, Params, class_means, prefixed, under
from .domains import Int, Rates, hyper
from .inner_loop import INNER_LR, OrderHyper, RatedLearner, weights_of
from .rates import RateVector


@dataclass(frozen=True)
class ProtoMAMLHyper(OrderHyper):
    """The inner loop, and how the outer loop sees it.

    The paper's experiments are of first order. The tuned settings published with its code have 1 to
    10 steps at rates from 0.005 to 0.31; our defaults are the code's before tuning, with a rate
    lower than MAML's since a head of prototypes has long weights from the start.
    """

    inner_steps: int = hyper(5, Int(1, 10), "gradient steps on the support set")
    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.01,),)), Rates(1e-4, 0.5), "rate of each inner step"
    )


@dataclass(frozen=True)
class ProtoMAML(RatedLearner[ProtoMAMLHyper]):
    """Meta-parameters: ``encoder.*``; ``inner_lr``, whose columns count the head in."""

    paper: ClassVar[str] = "Triantafillou et al. 2020, arXiv:1903.03096"
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION})
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = ProtoMAMLHyper
    recomputes: ClassVar[bool] = True

    def init(self, ways: int, generator: torch.Generator) -> Params:
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | {INNER_LR: self.initial_rates()}

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after the inner loop; every class needs an example.

        The steps take the head for weights of its own, not for a function of the encoder; only the
        outer gradient follows the prototypes, in first order too.
        """
        through = self.hyper.second_order
        embedded = self.encoder(under("encoder", params), support_x)
        start = weights_of(params) | prototype_head(embedded, support_y, ways)
        return self.inner_loop(params, start, support_x, support_y, through=through)


def prototype_head(embedded: Tensor, y: Tensor, ways: int) -> Params:
    """``head.weight`` [N, features] = 2 c_k and ``head.bias`` [N] = −‖c_k‖².

    Shapes: ``embedded`` [n, features], ``y`` [n] of 0…N−1.
    """
    prototypes = class_means(embedded, y, ways)
    return {"head.weight": 2 * prototypes, "head.bias": -prototypes.square().sum(1)}
