"""VERSA: a network reads a class's examples and gives the distribution of its linear classifier.

J. Gordon, J. Bronskill, M. Bauer, S. Nowozin, R. E. Turner: "Meta-Learning Probabilistic Inference
for Prediction", ICLR 2019, https://arxiv.org/abs/1805.09921

The head's weights and bias ψ_c of a class are Gaussian, q(ψ_c | D_c); an amortization network maps
the mean of the class's embedded examples to their means and log-variances, one class at a time and
independently of the others (section 3), so that it serves any number of ways. Class probabilities
are averages over L draws of ψ; meta-training maximises the logarithm of that average at the
queries' labels (equation 5), without a KL term and without an inner loop.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import (
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
from .domains import Choice, Float, Int, hyper
from .ensemble import average

DRAWS = "draws"
WEIGHT_MEAN, WEIGHT_LOG_VARIANCE = "weight_mean", "weight_log_variance"
BIAS_MEAN, BIAS_LOG_VARIANCE = "bias_mean", "bias_log_variance"


@dataclass(frozen=True)
class VERSAHyper(Hyper):
    """The amortization network and its draws; defaults are the paper's for Omniglot.

    There 16 tasks make a meta-iteration; for mini-ImageNet they are 4 or 8 (appendix).
    """

    meta_lr: float = hyper(1e-4, Float(1e-4, 1e-2, log=True), "rate of the outer optimizer")
    meta_batch: int = hyper(8, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    samples: int = hyper(10, Int(1, 50, log=True), "draws L of the head, in training and testing")
    width: int = hyper(256, Int(32, 512, log=True), "units of the amortization network's layers")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "samples", "width")


@dataclass(frozen=True)
class VERSA(Learner[VERSAHyper]):
    """Meta-parameters: ``encoder.*``; ``amortization.*``; ``draws``, which aren't learned.

    As in the authors' code the means and the log-variances, of the weights and of the bias, have a
    network each: three linear layers with ELUs between them.

    ``draws`` [L · ways, features + 1] are the standard normal numbers of a task's heads after
    meta-training, so that adaptation is a function. The paper draws them anew for each task.
    """

    paper: ClassVar[str] = "Gordon, Bronskill, Bauer, Nowozin, Turner 2019, arXiv:1805.09921"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = VERSAHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        width, features = self.hyper.width, self.encoder.features
        with torch.device("meta"):
            networks = {
                name: nn.ModuleDict(
                    {
                        "fc1": nn.Linear(features, width),
                        "fc2": nn.Linear(width, width),
                        "fc3": nn.Linear(width, outputs),
                    }
                )
                for name, outputs in (
                    (WEIGHT_MEAN, features),
                    (WEIGHT_LOG_VARIANCE, features),
                    (BIAS_MEAN, 1),
                    (BIAS_LOG_VARIANCE, 1),
                )
            }
        amortization = initial_parameters(nn.ModuleDict(networks), generator)
        return {
            **prefixed("encoder", self.encoder.init(generator)),
            **prefixed("amortization", amortization),
            DRAWS: torch.randn(self.hyper.samples * ways, features + 1, generator=generator),
        }

    def learned(self, params: Params) -> frozenset[str]:
        return frozenset(params) - {DRAWS}

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """L heads, [L, N, features + 1], the bias last; every class needs an example.

        A class needs draws of its own: shared ones would cancel in the differences of logits. With
        more ways than at ``init`` the rows of ``draws`` come round again, but no two classes of
        one head have the same unless there are more than L times as many.
        """
        mean, deviation = self.posterior(params, support_x, support_y, ways)
        rows = torch.arange(self.hyper.samples * ways, device=support_x.device)
        draws = params[DRAWS][rows % len(params[DRAWS])]
        return mean + deviation * draws.view(-1, *mean.shape)

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        """Logarithms of the mean class probabilities over the heads, log 1/L Σ p(y | x, ψ_l)."""
        embedded = self.encoder(under("encoder", params), query_x)
        weight, bias = fast[..., :-1], fast[..., -1:]
        logits = embedded @ weight.mT + bias.mT
        return average(logits, self.problem)

    def noise_size(self, params: Params, task: Task) -> int:
        return self.hyper.samples * task.ways * (self.encoder.features + 1)

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Equation 5, negated: −log 1/L Σ p(y | x, ψ_l), the mean over the queries.

        We draw ψ itself; the authors' code draws the logits (local reparameterization), which have
        the same distribution at each query.
        """
        mean, deviation = self.posterior(params, task.support_x, task.support_y, task.ways)
        fast = mean + deviation * moment.noise.view(-1, *mean.shape)
        prediction = self.predict(params, fast, task.query_x)
        return self.loss(prediction, task.query_y), prediction

    def posterior(
        self, params: Params, support_x: Tensor, support_y: Tensor, ways: int
    ) -> tuple[Tensor, Tensor]:
        """Means and standard deviations of q(ψ | D), [N, features + 1] each, the bias last."""
        embedded = self.encoder(under("encoder", params), support_x)
        pooled = class_means(embedded, support_y, ways)

        def amortized(name: str) -> Tensor:
            return perceptron(under(f"amortization.{name}", params), pooled)

        mean = torch.cat([amortized(WEIGHT_MEAN), amortized(BIAS_MEAN)], -1)
        log_variance = torch.cat([amortized(WEIGHT_LOG_VARIANCE), amortized(BIAS_LOG_VARIANCE)], -1)
        return mean, (log_variance / 2).exp()


def perceptron(weights: Params, x: Tensor) -> Tensor:
    """Three linear layers ``fc1``, ``fc2`` and ``fc3`` with ELUs between them."""
    x = F.elu(linear(weights, "fc1", x))
    x = F.elu(linear(weights, "fc2", x))
    return linear(weights, "fc3", x)
