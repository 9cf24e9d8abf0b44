"""Bayesian MAML against MAML, Stein's direction in NumPy, and the chaser loss by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_hand import network
from scipy.stats import multivariate_normal, norm
from torch import Tensor, nn

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, START, Encoder, Params
from autometa.learners.bmaml import BMAML, BMAMLHyper
from autometa.learners.inner_loop import weights_of
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks

RATE = 0.3
RATES = RateVector("fixed", "scalar", ((RATE,),))


class TestBMAML(LearnerTestCase):
    learner = BMAML
    hyper = BMAMLHyper(particles=2)
    exact_gradient = False  # the leaders are constants
    training_iterations = 8


class TestBMAMLByLikelihood(LearnerTestCase):
    learner = BMAML
    hyper = BMAMLHyper(
        particles=3,
        inner_steps=2,
        meta_loss="likelihood",
        prior_precision=0.3,
        inner_lr=RateVector("learned", "scalar", ((0.1,),)),
    )
    training_iterations = 8

    def make(self, problem: str) -> BMAML:
        """On a smooth encoder: inner gradients jump at a ReLU's kink, and many particles meet it.

        That of convolutions is compared with MAML's below.
        """
        learner = super().make(problem)
        assert isinstance(learner, BMAML)
        if problem == REGRESSION:
            return learner
        with torch.device("meta"):
            dense = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Tanh())
        return replace(learner, encoder=Encoder(dense, 16))


def scene(
    problem: str = CLASSIFICATION, ways: int = 3, **hyper: object
) -> tuple[BMAML, Params, Task]:
    learner = BMAML(small_encoder(problem), BMAMLHyper(inner_lr=RATES, **hyper), problem)  # type: ignore[arg-type]
    params = learner.init(ways, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(problem, ways=ways)


def stein_by_hand(theta: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """φ of the paper in a double loop; rows are particles."""
    count = len(theta)
    if count > 1:
        pairs = [
            np.linalg.norm(theta[i] - theta[j]) for i in range(count) for j in range(i + 1, count)
        ]
        lower, upper = sorted(pairs)[(len(pairs) - 1) // 2], sorted(pairs)[len(pairs) // 2]
        h = (lower**2 + upper**2) / 2 / math.log(count)
    phi = np.zeros_like(theta)
    for i in range(count):
        for j in range(count):
            difference = theta[j] - theta[i]
            k = 1.0 if i == j else math.exp(-difference @ difference / h)
            gradient = 0 * difference if i == j else -2 / h * k * difference
            phi[i] += (k * scores[j] + gradient) / count
    return phi


def step_by_hand(
    problem: str, particles: Params, x: Tensor, y: Tensor, *, variance: float, precision: float
) -> Params:
    """A step of rate/n along φ of the log posterior, particle by particle with autograd."""
    count = len(particles["head.bias"])
    theta, scores = [], []
    for m in range(count):
        weights = {n: v[m].clone().requires_grad_() for n, v in particles.items()}
        outputs = network(problem, list(weights.values()), x)
        if problem == REGRESSION:
            likelihood = torch.distributions.Normal(outputs, variance**0.5).log_prob(y).sum()
        else:
            likelihood = outputs.log_softmax(-1)[torch.arange(len(y)), y].sum()
        prior = -precision / 2 * sum((w**2).sum() for w in weights.values())
        grads = torch.autograd.grad(likelihood + prior, list(weights.values()))
        theta.append(torch.cat([w.detach().flatten() for w in weights.values()]))
        scores.append(torch.cat([g.flatten() for g in grads]))
    flat = torch.stack(theta).numpy()
    moved = torch.from_numpy(
        flat + RATE / len(y) * stein_by_hand(flat, torch.stack(scores).numpy())
    )
    sizes = [v[0].numel() for v in particles.values()]
    parts = moved.split(sizes, 1)
    return {n: p.view_as(v) for (n, v), p in zip(particles.items(), parts, strict=True)}


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("particles", [1, 2, 4])
def test_the_inner_loop_is_stein_variational_gradient_descent(problem: str, particles: int) -> None:
    learner, params, batch = scene(
        problem, particles=particles, inner_steps=2, prior_precision=0.2, noise_variance=0.3
    )
    task = next(batch.unbind())
    expected = weights_of(params)
    for _ in range(2):
        expected = step_by_hand(
            problem, expected, task.support_x, task.support_y, variance=0.3, precision=0.2
        )
    actual = learner.adapt(params, task.support_x, task.support_y, task.ways)
    rate = float(params["inner_lr"][0, 0]) / RATE  # it is a float32 number
    assert rate == pytest.approx(1, abs=1e-7)
    torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-7)
    moved = {n: (actual[n] - params[n]).abs().max() for n in actual}
    assert max(moved.values()) > 0.01


@torch.no_grad()
def test_the_kernel_drives_particles_apart_where_the_posterior_is_flat() -> None:
    learner, params, batch = scene(REGRESSION, ways=1, particles=3, noise_variance=1e9)
    task = next(batch.unbind())
    moved = learner.adapt(params, task.support_x, task.support_y, 1)

    def variance(particles: Params) -> float:
        return float(sum(v.var(0).sum() for v in weights_of(particles).values()))

    assert variance(moved) > variance(params)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
def test_one_particle_by_likelihood_is_maml(problem: str) -> None:
    ways = 1 if problem == REGRESSION else 3  # MAML's loss is a mean over outputs, not a sum
    learner, params, batch = scene(
        problem, ways=ways, particles=1, inner_steps=3, meta_loss="likelihood"
    )
    maml = MAML(small_encoder(problem), MAMLHyper(inner_steps=3, inner_lr=RATES), problem)
    single = {n: v if n == "inner_lr" else v[0] for n, v in params.items()}
    for strategy in ("loop", "vmap"):
        grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy)
        expected, of_maml = meta_gradient(maml, single, batch=batch, strategy=strategy)
        torch.testing.assert_close(
            {n: g[0] for n, g in grads.items()}, expected, rtol=1e-10, atol=1e-12
        )
        constant = 0.5 * math.log(math.pi) if problem == REGRESSION else 0.0
        torch.testing.assert_close(metrics["loss"], of_maml["loss"] + constant)
        torch.testing.assert_close(metrics["score"], of_maml["score"])


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
def test_the_chaser_loss_and_its_gradient(problem: str) -> None:
    """Leaders by the hand-written step; the gradient by autograd through the followers only."""
    learner, params, batch = scene(problem, particles=2, inner_steps=2, leader_steps=2)
    task = next(batch.unbind())
    followers = learner.adapt(params, task.support_x, task.support_y, task.ways)
    leaders = followers
    x = torch.cat([task.support_x, task.query_x])
    y = torch.cat([task.support_y, task.query_y])
    for _ in range(2):
        leaders = step_by_hand(problem, leaders, x, y, variance=0.5, precision=0.0)

    start = {n: v.clone().requires_grad_() for n, v in weights_of(params).items()}
    followers = learner.adapt(params | start, task.support_x, task.support_y, task.ways)
    distance = sum(((followers[n] - leaders[n]) ** 2).sum() for n in leaders)
    assert isinstance(distance, Tensor)
    expected = dict(zip(start, torch.autograd.grad(distance, list(start.values())), strict=True))
    grads, metrics = learner.meta_grad(params, task, START)
    torch.testing.assert_close(metrics["loss"], distance.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-5, atol=1e-7)
    assert distance > 1e-4


@torch.no_grad()
def test_the_likelihood_is_averaged_over_the_particles() -> None:
    learner, params, batch = scene(particles=3, meta_loss="likelihood")
    task = next(batch.unbind())
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    mean = np.mean(
        [
            network(CLASSIFICATION, [v[m] for v in fast.values()], task.query_x).softmax(-1).numpy()
            for m in range(3)
        ],
        axis=0,
    )
    np.testing.assert_allclose(learner.predict(params, fast, task.query_x), np.log(mean), rtol=1e-9)
    loss, prediction = learner.objective(params, task, START)
    expected = -np.log(mean[np.arange(6), task.query_y.numpy()]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    np.testing.assert_allclose(prediction, np.log(mean), rtol=1e-9)
    assert learner.spread(params, fast, task.query_x) is None


@torch.no_grad()
def test_a_regression_is_a_mixture_of_gaussians() -> None:
    variance = 0.2
    learner, params, batch = scene(
        REGRESSION, particles=3, meta_loss="likelihood", noise_variance=variance
    )
    task = next(batch.unbind())
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    means = np.stack(
        [network(REGRESSION, [v[m] for v in fast.values()], task.query_x).numpy() for m in range(3)]
    )
    densities = np.array(
        [
            [
                multivariate_normal(mean, variance).pdf(y)
                for mean, y in zip(of, task.query_y.numpy(), strict=True)
            ]
            for of in means
        ]
    )
    loss, prediction = learner.objective(params, task, START)
    np.testing.assert_allclose(loss, -np.log(densities.mean(0)).mean(), rtol=1e-9)
    np.testing.assert_allclose(prediction, means.mean(0), rtol=1e-9)
    spread = learner.spread(params, fast, task.query_x)
    second = np.mean([norm(m, variance**0.5).moment(2) for m in means], axis=0)
    np.testing.assert_allclose(spread, np.sqrt(second - means.mean(0) ** 2), rtol=1e-9)


def test_particles_start_apart_from_each_other() -> None:
    _, params, _ = scene(particles=4)
    heads = params["head.weight"]
    assert heads.shape == (4, 3, 24)
    assert all(not torch.equal(heads[0], other) for other in heads[1:])


def test_rates_are_learned_only_when_asked() -> None:
    _, params, batch = scene(particles=2)
    for mode in ("fixed", "learned"):
        hyper = BMAMLHyper(particles=2, inner_lr=RateVector(mode, "scalar", ((RATE,),)))
        learner = BMAML(small_encoder(CLASSIFICATION), hyper)
        grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop")
        assert ("inner_lr" in grads) == (mode == "learned")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"particles": 0}, "particles is 0"),
        ({"leader_steps": 0}, "leader_steps is 0"),
        ({"prior_precision": -1.0}, "prior_precision is -1"),
        ({"noise_variance": 0.0}, "noise_variance is 0"),
        ({"meta_loss": "mean"}, "meta_loss is 'mean'"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        BMAMLHyper(**wrong)  # type: ignore[arg-type]
