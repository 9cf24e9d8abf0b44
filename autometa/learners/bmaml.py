"""Bayesian MAML: a swarm of initializations that moves to samples of a task's posterior.

J. Yoon, T. Kim, O. Dia, S. Kim, Y. Bengio, S. Ahn: "Bayesian Model-Agnostic Meta-Learning", NeurIPS
2018, https://arxiv.org/abs/1806.03836

The initialization is a set of M particles. The inner loop (Bayesian fast adaptation, section 3.1)
takes steps of Stein variational gradient descent (Q. Liu, D. Wang, NeurIPS 2016, arXiv:1608.04471,
equation 8) on the posterior that a task's support set gives: a kernel lets the particles share
their gradients and drives them apart. The outer loop minimises the chaser loss (section 3.2), the
squared distance from the adapted particles to leaders that went some steps further knowing the
queries too; or the negative logarithm of the queries' likelihood, averaged over the particles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import REGRESSION, Hyper, Moment, Params, Task
from .domains import Choice, Float, Int, Rates, hyper
from .ensemble import EnsembleHyper, EnsembleLearner, average, gaussian_nll
from .gradients import inner_gradient
from .inner_loop import INNER_LR, descend, weights_of
from .rates import RateVector
from .recompute import unrolled


@dataclass(frozen=True)
class BMAMLHyper(EnsembleHyper):
    """The particles, their posterior and the outer loss.

    One step of the followers and one of the leaders, as in the authors' code. The rate is MAML's of
    Omniglot for one step; its particles' own gradients count 1/M.
    """

    inner_steps: int = hyper(1, Int(1, 5), "steps of the particles on the support set")
    inner_lr: RateVector = hyper(  # noqa: RUF009 (a rate vector is frozen)
        RateVector("fixed", "scalar", ((0.4,),)),
        Rates(1e-3, 1.0, groups=("scalar",)),
        "rate of each inner step",
    )
    particles: int = hyper(5, Int(1, 10), "particles M")
    meta_loss: str = hyper(
        "chaser",
        Choice(("chaser", "likelihood")),
        "distance to the leaders, or negative log-likelihood of the queries",
    )
    leader_steps: int = hyper(1, Int(1, 5), "further steps of the leaders")
    prior_precision: float = hyper(
        0.0, Float(0.0, 1.0), "precision of a Gaussian prior of the weights around 0; 0: none"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "particles", "leader_steps")
        self.at_least(0, "prior_precision")


@dataclass(frozen=True)
class BMAML(EnsembleLearner[BMAMLHyper]):
    """Meta-parameters: ``encoder.*`` and ``head.*`` of M networks, stacked; ``inner_lr``.

    The paper gives the precisions of noise and weights Gamma priors and particles of their own;
    here both are hyper-parameters.
    """

    paper: ClassVar[str] = "Yoon, Kim, Dia, Kim, Bengio, Ahn 2018, arXiv:1806.03836"
    hyper_type: ClassVar[type[Hyper]] = BMAMLHyper
    recomputes: ClassVar[bool] = True

    def init(self, ways: int, generator: torch.Generator) -> Params:
        networks = [self.network_parameters(ways, generator) for _ in range(self.hyper.particles)]
        particles = {name: torch.stack([n[name] for n in networks]) for name in networks[0]}
        return particles | {INNER_LR: self.initial_rates()}

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The particles after the inner loop, stacked.

        Raises:
            ValueError: The task has other ways than the heads.
        """
        self.check_ways(params, ways)
        steps, particles = self.step_rates(params), weights_of(params)
        support = support_x, support_y
        return unrolled(self.step, particles, steps, *support, recompute=self.recompute)

    def step(self, particles: Params, rates: Tensor, x: Tensor, y: Tensor) -> Params:
        """One step of Stein variational gradient descent on n examples, θ + α/n · φ.

        By the n in it, which the paper has not, the rate α means what it does in MAML: with a
        single particle φ/n is the gradient of the mean log-likelihood.
        """

        def log_posteriors(particles: Params) -> Tensor:
            """Their sum over the particles: each has its own gradient by this."""
            norm = torch.stack([value.square().sum() for value in particles.values()]).sum()
            likelihoods = -self.losses(self.outputs(particles, x), y).sum()
            return likelihoods - self.hyper.prior_precision / 2 * norm

        scores = inner_gradient(log_posteriors, particles, through=True)
        kernel, bandwidth = rbf_kernel(particles)
        down = {
            name: -stein(value, scores[name], kernel, bandwidth) / len(y)
            for name, value in particles.items()
        }
        return descend(particles, down, rates, self.columns(self.hyper.inner_lr.groups))

    def losses(self, outputs: Tensor, y: Tensor) -> Tensor:
        """Each particle's negative log-likelihood of each example, [M, B]."""
        if self.problem == REGRESSION:
            return gaussian_nll(outputs, y, self.hyper.noise_variance)
        return F.cross_entropy(
            outputs.flatten(0, 1), y.repeat(len(outputs)), reduction="none"
        ).view(len(outputs), -1)

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """The chaser loss Σ ‖θ_m − stopgrad(leader_m)‖², or −log 1/M Σ p(y | x, θ_m).

        The latter is the mean over the queries: each is predicted by itself. In the paper
        (section 3.1) the average is over the likelihoods of all queries together.
        """
        followers = self.at(moment).adapt(params, task.support_x, task.support_y, task.ways)
        outputs = self.outputs(followers, task.query_x)
        prediction = average(outputs, self.problem)
        if self.hyper.meta_loss == "likelihood":
            log_mean = (-self.losses(outputs, task.query_y)).logsumexp(0) - math.log(len(outputs))
            return -log_mean.mean(), prediction
        leaders = {name: value.detach() for name, value in followers.items()}
        x = torch.cat([task.support_x, task.query_x])
        y = torch.cat([task.support_y, task.query_y])
        for _ in range(self.hyper.leader_steps):
            leaders = self.step(leaders, params[INNER_LR][-1].detach(), x, y)
        distances = [
            (followers[n] - leader.detach()).square().sum() for n, leader in leaders.items()
        ]
        return torch.stack(distances).sum(), prediction


def rbf_kernel(particles: Params) -> tuple[Tensor, Tensor | float]:
    """k = exp(−‖θ_i − θ_j‖² / h), [M, M], and h = med² / log M, the median over all pairs.

    Steps hold h for a constant of the kernel's gradient, as SVGD does; the meta-gradient goes
    through it, where the authors' code stops it.
    """
    flat = torch.cat([value.flatten(1) for value in particles.values()], 1)
    # Centred, so that squared distances by products don't cancel.
    flat = flat - flat.mean(0)
    products = flat @ flat.T
    lengths = products.diagonal()
    squares = lengths[:, None] + lengths - 2 * products
    count = len(flat)
    if count == 1:
        return torch.ones_like(squares), 1.0
    first, second = torch.triu_indices(count, count, offset=1, device=flat.device)
    pairs = squares[first, second].sort().values
    median = (pairs[(len(pairs) - 1) // 2] + pairs[len(pairs) // 2]) / 2
    bandwidth = median / math.log(count)
    return (-squares / bandwidth).exp(), bandwidth


def stein(particles: Tensor, scores: Tensor, kernel: Tensor, bandwidth: Tensor | float) -> Tensor:
    """φ(θ_i) = 1/M Σ_j [k(θ_j, θ_i) s_j + ∇_{θ_j} k(θ_j, θ_i)] of one weight, [M, …].

    ``scores`` s are the gradients of the log posterior. The kernel's gradient is
    2/h · k · (θ_i − θ_j); the authors' code lacks the 2.
    """
    flat = particles.flatten(1)
    apart = kernel.sum(1, keepdim=True) * flat - kernel @ flat
    phi = (kernel @ scores.flatten(1) + 2 / bandwidth * apart) / len(flat)
    return phi.view_as(particles)
