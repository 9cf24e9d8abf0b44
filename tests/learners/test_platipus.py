"""PLATIPUS against MAML, the divergence of ``torch.distributions``, and its algorithms by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from by_hand import network
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Moment, Params, under
from autometa.learners.inner_loop import weights_of
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.platipus import Platipus, PlatipusHyper, gaussian_kl, sample
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

PROBLEMS = (CLASSIFICATION, REGRESSION)
RATES = RateVector("fixed", "scalar", ((0.3,),))


class TestPlatipus(LearnerTestCase):
    learner = Platipus
    hyper = PlatipusHyper(
        inner_steps=2, samples=2, inner_lr=RateVector("learned", "layer", ((0.1,),))
    )
    training_iterations = 12


def scene(
    problem: str = CLASSIFICATION, ways: int = 3, **hyper: object
) -> tuple[Platipus, Params, Task]:
    """A learner whose distributions have another variance for each weight."""
    settings = PlatipusHyper(inner_lr=RATES, samples=3, **hyper)  # type: ignore[arg-type]
    learner = Platipus(small_encoder(problem), settings, problem)
    generator = torch.Generator().manual_seed(0)
    params = {n: v.double() for n, v in learner.init(ways, generator).items()}
    for name, value in params.items():
        if "log_variance" in name:
            noise = torch.randn(value.shape, generator=generator, dtype=torch.float64)
            params[name] = value + noise / 2
    params["gamma_q"] = torch.tensor(0.02, dtype=torch.float64)
    return learner, params, small_tasks(problem, ways=ways)


def noise_of(learner: Platipus, params: Params, batch: Task) -> Tensor:
    shape = (len(batch.query_y), learner.noise_size(params, batch))
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def loss_by_hand(problem: str, w: list[Tensor], x: Tensor, y: Tensor, variance: float) -> Tensor:
    outputs = network(problem, w, x)
    if problem == REGRESSION:
        return -Normal(outputs, variance**0.5).log_prob(y).sum(1).mean()
    return -outputs.log_softmax(-1)[torch.arange(len(y)), y].mean()


def steps_by_hand(
    problem: str, w: list[Tensor], x: Tensor, y: Tensor, rates: list[Tensor], variance: float
) -> list[Tensor]:
    for rate in rates:
        grads = torch.autograd.grad(loss_by_hand(problem, w, x, y, variance), w, create_graph=True)
        w = [value - rate * g for value, g in zip(w, grads, strict=True)]
    return w


def flat(parts: list[Tensor]) -> Tensor:
    return torch.cat([part.flatten() for part in parts])


def like(vector: Tensor, parts: list[Tensor]) -> list[Tensor]:
    pieces = vector.split([part.numel() for part in parts])
    return [piece.view_as(part) for piece, part in zip(pieces, parts, strict=True)]


def in_order(noise: Tensor, weights: Params) -> Tensor:
    """The noise, whose parts are in the order of the weights' names, in that of the network."""
    names = sorted(weights)
    pieces = noise.split([weights[name].numel() for name in names])
    parts = dict(zip(names, pieces, strict=True))
    return torch.cat([parts[name] for name in weights])


def objective_by_hand(
    problem: str, p: Params, task: Task, noise: Tensor, *, variance: float, kl_weight: float
) -> Tensor:
    """Algorithm 1, on flat vectors, with ``torch.distributions``."""
    mean = list(weights_of(p).values())
    names = list(weights_of(p))
    sigma = (flat([p[f"log_variance.{n}"] for n in names]).exp()).sqrt()
    deviation = (flat([p[f"posterior_log_variance.{n}"] for n in names]).exp()).sqrt()
    support, queries = (task.support_x, task.support_y), (task.query_x, task.query_y)
    step_q, step_p = (
        flat([*steps_by_hand(problem, mean, *data, [p[gamma]], variance)])
        for data, gamma in ((queries, "gamma_q"), (support, "gamma_p"))
    )
    q, prior = Normal(step_q, deviation), Normal(step_p, sigma)
    theta = like(q.loc + q.scale * in_order(noise, weights_of(p)), mean)
    phi = steps_by_hand(problem, theta, *support, list(p["inner_lr"][:, 0]), variance)
    divergence = kl_divergence(q, prior).sum() / len(task.query_y)
    return loss_by_hand(problem, phi, *queries, variance) + kl_weight * divergence


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
@pytest.mark.parametrize("problem", PROBLEMS)
def test_meta_training_is_algorithm_1(problem: str, strategy: str) -> None:
    learner, params, batch = scene(problem, inner_steps=2, kl_weight=0.7, noise_variance=0.3)
    noise = noise_of(learner, params, batch)
    leaves = {n: v.clone().requires_grad_() for n, v in params.items()}
    losses = [
        objective_by_hand(problem, leaves, task, of, variance=0.3, kl_weight=0.7)
        for task, of in zip(batch.unbind(), noise, strict=True)
    ]
    expected = torch.stack(losses).mean()
    names = sorted(learner.learned(params))
    grads = torch.autograd.grad(expected, [leaves[n] for n in names])
    actual, metrics = meta_gradient(
        learner, params, batch=batch, strategy=strategy, moment=Moment(0.0, noise)
    )
    torch.testing.assert_close(metrics["loss"], expected.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(actual, dict(zip(names, grads, strict=True)), rtol=1e-7, atol=1e-9)
    assert actual.keys() == params.keys() - {"draws", "inner_lr"}
    assert actual["gamma_p"].abs() > 1e-3
    assert actual["gamma_q"].abs() > 1e-3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_meta_testing_is_algorithm_2(problem: str) -> None:
    learner, params, batch = scene(problem, inner_steps=2, noise_variance=0.3)
    task = next(batch.unbind())
    support = task.support_x, task.support_y
    mean = [v.clone().requires_grad_() for v in weights_of(params).values()]
    sigma = flat([(params[f"log_variance.{n}"] / 2).exp() for n in weights_of(params)])
    moved = flat(steps_by_hand(problem, mean, *support, [params["gamma_p"]], 0.3))
    outputs = []
    for draw in params["draws"]:
        theta = like(moved + sigma * in_order(draw, weights_of(params)), mean)
        phi = steps_by_hand(problem, theta, *support, list(params["inner_lr"][:, 0]), 0.3)
        outputs.append(network(problem, phi, task.query_x).detach())
    found = torch.stack(outputs)
    fast = learner.adapt(params, *support, 3)
    actual = learner.predict(params, fast, task.query_x)
    spread = learner.spread(params, fast, task.query_x)
    if problem == REGRESSION:
        torch.testing.assert_close(actual, found.mean(0), rtol=1e-8, atol=1e-10)
        variance = (found**2).mean(0) - found.mean(0) ** 2 + 0.3
        torch.testing.assert_close(spread, variance.sqrt(), rtol=1e-8, atol=1e-10)
    else:
        probabilities = found.softmax(-1).mean(0)
        torch.testing.assert_close(actual.exp(), probabilities, rtol=1e-8, atol=1e-10)
        assert spread is None
    assert found.std(0).max() > 1e-3


@pytest.mark.parametrize("problem", PROBLEMS)
def test_without_variance_and_first_steps_it_is_maml(problem: str) -> None:
    ways = 1 if problem == REGRESSION else 3  # MAML's loss is a mean over outputs, not a sum
    learner, params, batch = scene(problem, ways, inner_steps=3)
    for name, value in params.items():
        if "log_variance" in name:
            params[name] = torch.full_like(value, -80.0)
        if name.startswith("gamma"):
            params[name] = torch.zeros_like(value)
    maml = MAML(small_encoder(problem), MAMLHyper(inner_steps=3, inner_lr=RATES), problem)
    own = {n: v for n, v in params.items() if n == "inner_lr" or n in weights_of(params)}
    moment = Moment(0.0, noise_of(learner, params, batch))
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)
    expected, of_maml = meta_gradient(maml, own, batch=batch, strategy="loop")
    constant = 0.5 * math.log(math.pi) if problem == REGRESSION else 0.0
    torch.testing.assert_close(metrics["loss"], of_maml["loss"] + constant)
    torch.testing.assert_close(metrics["score"], of_maml["score"])
    torch.testing.assert_close(weights_of(grads), expected, rtol=1e-9, atol=1e-11)
    task = next(batch.unbind())
    logits = predictions(maml, own, task)
    if problem == CLASSIFICATION:
        logits = logits.log_softmax(-1)
    torch.testing.assert_close(predictions(learner, params, task), logits)


def test_divergence_is_that_of_torch() -> None:
    generator = torch.Generator().manual_seed(0)
    q_mean, q_log, p_mean, p_log = (
        {
            "a": torch.randn(3, 2, generator=generator, dtype=torch.float64),
            "b": torch.randn(4, generator=generator, dtype=torch.float64),
        }
        for _ in range(4)
    )
    expected = sum(
        kl_divergence(
            Normal(q_mean[n], (q_log[n] / 2).exp()), Normal(p_mean[n], (p_log[n] / 2).exp())
        ).sum()
        for n in ("a", "b")
    )
    torch.testing.assert_close(gaussian_kl(q_mean, q_log, p_mean, p_log), expected)
    assert gaussian_kl(q_mean, q_log, q_mean, q_log) == 0


def test_samples_have_the_mean_and_variance_of_each_weight() -> None:
    generator = torch.Generator().manual_seed(0)
    mean = {"a": torch.tensor([[1.0, -2.0]]), "b": torch.tensor([3.0])}
    log_variance = {"a": torch.tensor([[0.0, -2.0]]), "b": torch.tensor([1.0])}
    noise = torch.randn(5_000, 3, generator=generator)
    drawn = [sample(mean, log_variance, row) for row in noise]
    found = np.stack([torch.cat([s["a"].flatten(), s["b"]]).numpy() for s in drawn])
    np.testing.assert_allclose(found.mean(0), [1, -2, 3], atol=0.06)
    np.testing.assert_allclose(found.var(0), np.exp([0, -2, 1]), rtol=0.1)


def test_the_noise_has_a_number_for_each_weight() -> None:
    learner, params, batch = scene()
    size = sum(v.numel() for v in weights_of(params).values())
    assert learner.noise_size(params, batch) == size
    assert params["draws"].shape == (3, size)
    assert under("log_variance", params).keys() == weights_of(params).keys()


def test_deviations_and_rates_start_where_asked() -> None:
    hyper = PlatipusHyper(deviation=0.05, gamma=0.2)
    params = Platipus(small_encoder(CLASSIFICATION), hyper).init(3, torch.Generator())
    for which in ("log_variance", "posterior_log_variance"):
        for value in under(which, params).values():
            torch.testing.assert_close((value / 2).exp(), torch.full_like(value, 0.05))
    assert params["gamma_p"] == params["gamma_q"] == pytest.approx(0.2)


def test_rates_are_learned_only_when_asked() -> None:
    learner, params, _ = scene()
    asked = replace(learner.hyper, inner_lr=RateVector("learned", "scalar", ((0.1,),)))
    assert "inner_lr" not in learner.learned(params)
    assert "inner_lr" in replace(learner, hyper=asked).learned(params)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"samples": 0}, "samples is 0"),
        ({"kl_weight": -1.0}, "kl_weight is -1"),
        ({"gamma": -1.0}, "gamma is -1"),
        ({"deviation": 0.0}, "deviation is 0"),
        ({"noise_variance": 0.0}, "noise_variance is 0"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PlatipusHyper(**wrong)  # type: ignore[arg-type]
