"""PLATIPUS: a distribution over initializations, from which a task takes several.

C. Finn, K. Xu, S. Levine: "Probabilistic Model-Agnostic Meta-Learning", NeurIPS 2018,
https://arxiv.org/abs/1806.02817

The initialization θ is Gaussian with learned mean μ_θ and variance σ²_θ. A task's support set moves
the mean one gradient step, p(θ | D_train) = N(μ_θ − γ_p ∇L(μ_θ, D_train), σ²_θ); initializations
drawn from it are adapted as in MAML (algorithm 2). Meta-training (algorithm 1) is amortised
variational inference: it draws θ from q(θ | D_test) = N(μ_θ − γ_q ∇L(μ_θ, D_test), v_q), which has
seen the queries, and minimises the loss of the adapted θ on them plus KL(q ‖ p).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import vmap

from .base import REGRESSION, Hyper, Moment, Params, Task, prefixed, under
from .domains import Float, Int, hyper
from .ensemble import EnsembleHyper, EnsembleLearner, average, gaussian_nll
from .inner_loop import INNER_LR, weights_of

PRIOR, POSTERIOR = "log_variance", "posterior_log_variance"
GAMMA_P, GAMMA_Q = "gamma_p", "gamma_q"
DRAWS = "draws"


@dataclass(frozen=True)
class PlatipusHyper(EnsembleHyper):
    """The distributions and the bound; ``kl_weight`` 1 is the paper's objective."""

    samples: int = hyper(5, Int(1, 10), "initializations of a task after meta-training")
    kl_weight: float = hyper(1.0, Float(1e-3, 10.0, log=True), "weight of KL(q ‖ p)")
    deviation: float = hyper(
        0.01, Float(1e-3, 0.1, log=True), "standard deviations of p and q before meta-training"
    )
    gamma: float = hyper(0.01, Float(1e-3, 1.0, log=True), "rates γ_p and γ_q before meta-training")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "samples")
        self.at_least(0, "kl_weight", "gamma")
        self.above(0, "deviation")


@dataclass(frozen=True)
class Platipus(EnsembleLearner[PlatipusHyper]):
    """Meta-parameters: ``encoder.*`` and ``head.*``, which are μ_θ; ``log_variance.*`` and
    ``posterior_log_variance.*``, log σ²_θ and log v_q of each weight; ``gamma_p`` and ``gamma_q``,
    numbers; ``inner_lr``; ``draws`` [L, weights], which aren't learned.

    ``draws`` are the standard normal numbers of a task's initializations after meta-training, so
    that adaptation is a function. The paper draws them anew for each task.
    """

    paper: ClassVar[str] = "Finn, Xu, Levine 2018, arXiv:1806.02817"
    hyper_type: ClassVar[type[Hyper]] = PlatipusHyper
    recomputes: ClassVar[bool] = True

    def init(self, ways: int, generator: torch.Generator) -> Params:
        mean = self.network_parameters(ways, generator)
        log_variance = 2 * math.log(self.hyper.deviation)
        size = sum(value.numel() for value in mean.values())
        return {
            **mean,
            **prefixed(PRIOR, {n: torch.full_like(v, log_variance) for n, v in mean.items()}),
            **prefixed(POSTERIOR, {n: torch.full_like(v, log_variance) for n, v in mean.items()}),
            GAMMA_P: torch.tensor(self.hyper.gamma),
            GAMMA_Q: torch.tensor(self.hyper.gamma),
            INNER_LR: self.initial_rates(),
            DRAWS: torch.randn(self.hyper.samples, size, generator=generator),
        }

    def learned(self, params: Params) -> frozenset[str]:
        return super().learned(params) - {DRAWS}

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """Algorithm 2: L initializations drawn from p(θ | D_train) and adapted, stacked.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        mean = self.moved_mean(params, params[GAMMA_P], support_x, support_y)
        log_variance = under(PRIOR, params)

        def adapted(draw: Tensor) -> Params:
            theta = sample(mean, log_variance, draw)
            return self.inner_loop(params, theta, support_x, support_y, through=True)

        fast: Params = vmap(adapted)(params[DRAWS])
        return fast

    def noise_size(self, params: Params, task: Task) -> int:
        return sum(value.numel() for value in weights_of(params).values())

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Algorithm 1: the queries' loss after adapting one θ drawn from q, plus KL(q ‖ p).

        It is the paper's variational bound per query: the loss is a mean, and the KL divergence is
        divided by their number. The predictions are those of a network whose θ comes from q.
        """
        self.check_ways(params, task.ways)
        support = task.support_x, task.support_y
        queries = task.query_x, task.query_y
        posterior = self.moved_mean(params, params[GAMMA_Q], *queries)
        prior = self.moved_mean(params, params[GAMMA_P], *support)
        log_variances = under(POSTERIOR, params), under(PRIOR, params)
        theta = sample(posterior, log_variances[0], moment.noise)
        fast = self.at(moment).inner_loop(params, theta, *support, through=True)
        outputs = self.network(fast, task.query_x)
        divergence = gaussian_kl(posterior, log_variances[0], prior, log_variances[1])
        loss = self.negative_log_likelihood(outputs, task.query_y)
        bound = loss + self.hyper.kl_weight * divergence / len(task.query_y)
        return bound, average(outputs[None], self.problem)

    def moved_mean(self, params: Params, gamma: Tensor, x: Tensor, y: Tensor) -> Params:
        """μ_θ − γ ∇L(μ_θ, D), the mean of p or q."""
        mean = weights_of(params)
        grads = self.support_grads(mean, x, y, through=True)
        return {name: mean[name] - gamma * g for name, g in grads.items()}

    def negative_log_likelihood(self, outputs: Tensor, y: Tensor) -> Tensor:
        """L, the mean over the examples."""
        if self.problem == REGRESSION:
            return gaussian_nll(outputs, y, self.hyper.noise_variance).mean()
        return F.cross_entropy(outputs, y)

    def support_loss(self, weights: Params, x: Tensor, y: Tensor) -> Tensor:
        return self.negative_log_likelihood(self.network(weights, x), y)


def sample(mean: Params, log_variance: Params, noise: Tensor) -> Params:
    """mean + deviation · noise, [weights], which has a part for each tensor in order of names."""
    names = sorted(mean)
    parts = torch.split(noise, [mean[name].numel() for name in names])
    return {
        name: mean[name] + (log_variance[name] / 2).exp() * part.view_as(mean[name])
        for name, part in zip(names, parts, strict=True)
    }


def gaussian_kl(mean_q: Params, log_q: Params, mean_p: Params, log_p: Params) -> Tensor:
    """KL(q ‖ p) of two diagonal Gaussians, given by means and log-variances, summed over all."""
    parts = []
    for name, mean in mean_q.items():
        excess = log_q[name] - log_p[name]
        gap = (mean - mean_p[name]).square() / log_p[name].exp()
        parts.append((excess.exp() - 1 - excess + gap).sum() / 2)
    return torch.stack(parts).sum()
