"""Conditional neural processes: the mean of embedded examples conditions a decoder.

M. Garnelo, D. Rosenbaum, C. Maddison, T. Ramalho, D. Saxton, M. Shanahan, Y. W. Teh, D. Rezende,
S. M. A. Eslami: "Conditional Neural Processes", ICML 2018, https://arxiv.org/abs/1807.01613

A network h embeds each observation, r_i = h(x_i, y_i) (equation 1); their mean r = r_1 ⊕ … ⊕ r_n
is all that is kept of a support set, whatever its order and size (equation 2); a decoder g gives
the parameters of each query's distribution, φ = g(x, r) (equation 3): mean and variance of a
Gaussian (here its root), or class probabilities. Meta-training minimises the negative
log-likelihood of the observed and the unobserved points (equation 4). Here x is what the backbone
makes of an input.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import (
    CLASSIFICATION,
    REGRESSION,
    Hyper,
    Learner,
    Moment,
    Params,
    Task,
    class_means,
    initial_parameters,
    linear,
    prefixed,
    under,
)
from .domains import Choice, Int, hyper

# Of the authors' code; the paper doesn't say how the standard deviation is kept positive.
LEAST_SPREAD = 0.1


@dataclass(frozen=True)
class CNPHyper(Hyper):
    """Sizes of h and g; the defaults are those of the paper's one-dimensional regression.

    That is, three layers, representations of 128 and five layers (section 4.1). The authors'
    program has four and three layers.
    """

    width: int = hyper(128, Int(32, 256, log=True), "units of each layer, and of a representation")
    encoder_layers: int = hyper(3, Int(1, 4), "layers of h, above the backbone")
    decoder_layers: int = hyper(5, Int(1, 5), "layers of the decoder g")
    scored: str = hyper(
        "all", Choice(("all", "query")), "whether training also predicts the support set back"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "width", "encoder_layers", "decoder_layers")


@dataclass(frozen=True)
class CNP(Learner[CNPHyper]):
    """Meta-parameters: ``encoder.*``; ``h.i.*`` and ``g.i.*``, the layers of the two networks.

    Classification: as in the paper's Omniglot experiment, a class has a representation of its own,
    the mean over its examples, without their labels. There g reads them all in a row, which fixes
    the number of ways and tells one class from another by its place. Ours gives the logit of one
    class at a time, from r_class and the mean of all of them: it serves any number of ways.

    Regression: each output has a representation and is decoded alone, by the same h and g. For one
    output, as in the paper, that is equations 1–3 as they stand.
    """

    paper: ClassVar[str] = "Garnelo et al. 2018, arXiv:1807.01613"
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION, REGRESSION})
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = CNPHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        width, features = self.hyper.width, self.encoder.features
        regression = self.problem == REGRESSION
        # h reads (x, y) or x; g reads (x, r) or (x, r_class, mean), and gives (μ, σ) or a logit.
        h = [features + regression, *[width] * self.hyper.encoder_layers]
        read = features + width * (1 if regression else 2)
        g = [read, *[width] * (self.hyper.decoder_layers - 1), 2 if regression else 1]
        return {
            **prefixed("encoder", self.encoder.init(generator)),
            **prefixed("h", _layers(h, generator)),
            **prefixed("g", _layers(g, generator)),
        }

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """What g gets to know of the support set, [N, width or 2·width] (equations 1 and 2).

        A row a class, which needs an example, or a row an output.
        """
        x = self.encoder(under("encoder", params), support_x)
        h = under("h", params)
        if self.problem == REGRESSION:
            pairs = torch.cat([x.expand(ways, *x.shape), support_y.T[..., None]], -1)
            return perceptron(h, pairs).mean(1)
        r = class_means(perceptron(h, x), support_y, ways)
        return torch.cat([r, r.mean(0, keepdim=True).expand_as(r)], -1)

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        return self._decode(params, fast, query_x)[..., 0]

    def spread(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor | None:
        """Standard deviations, at least 0.1: 0.1 + 0.9 softplus, of the authors' code."""
        if self.problem != REGRESSION:
            return None
        return _spread(self._decode(params, fast, query_x)[..., 1])

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Negative log-likelihood a point (equation 4), and the query predictions.

        The paper draws the number of observed points anew for every function; here it is that of
        the episodes.
        """
        fast = self.adapt(params, task.support_x, task.support_y, task.ways)
        decoded, y = self._decode(params, fast, task.query_x), task.query_y
        prediction = decoded[..., 0]
        if self.hyper.scored == "all":
            decoded = torch.cat([self._decode(params, fast, task.support_x), decoded])
            y = torch.cat([task.support_y, y])
        if self.problem == REGRESSION:
            return gaussian_nll(decoded[..., 0], _spread(decoded[..., 1]), y), prediction
        return self.loss(decoded[..., 0], y), prediction

    def _decode(self, params: Params, fast: Tensor, x: Tensor) -> Tensor:
        """Equation 3 for each query and row of ``fast``: [Q, N, 1 or 2]."""
        features = self.encoder(under("encoder", params), x)
        shape = (len(features), len(fast), -1)
        pairs = torch.cat([features[:, None].expand(shape), fast.expand(shape)], -1)
        return perceptron(under("g", params), pairs)


def perceptron(weights: Params, x: Tensor) -> Tensor:
    """Linear layers ``0.weight``, ``0.bias``, ``1.weight``, … with ReLUs between them."""
    for i in range(len(weights) // 2):
        x = linear(weights, f"{i}", x.relu() if i else x)
    return x


def gaussian_nll(mean: Tensor, spread: Tensor, y: Tensor) -> Tensor:
    """−log N(y; mean, spread²), the mean over all entries."""
    return (((y - mean) / spread).square() / 2 + spread.log()).mean() + math.log(2 * math.pi) / 2


def _spread(raw: Tensor) -> Tensor:
    return LEAST_SPREAD + (1 - LEAST_SPREAD) * F.softplus(raw)


def _layers(sizes: list[int], generator: torch.Generator) -> Params:
    with torch.device("meta"):
        layers = [nn.Linear(a, b) for a, b in pairwise(sizes)]
    return initial_parameters(nn.Sequential(*layers), generator)
