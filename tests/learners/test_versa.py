"""VERSA against an amortization network and an average of probabilities in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import log_softmax, logsumexp, softmax
from torch import Tensor

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Moment, Params, under
from autometa.learners.versa import VERSA, VERSAHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

SAMPLES, FEATURES = 4, 24


class TestVERSA(LearnerTestCase):
    learner = VERSA
    hyper = VERSAHyper(samples=3, width=16)
    training_iterations = 40


def scene(*, shots: int = 3, ways: int = 3) -> tuple[VERSA, Params, Task]:
    """Learner and task; the output layers' weights are enlarged, so that classes differ in q."""
    learner = VERSA(small_encoder(CLASSIFICATION), VERSAHyper(samples=SAMPLES, width=8))
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots, ways=ways).unbind())
    return learner, {n: (5 if "fc3" in n else 1) * v.double() for n, v in params.items()}, task


def embed(learner: VERSA, params: Params, x: Tensor) -> np.ndarray:
    return learner.encoder(under("encoder", params), x).numpy()


def amortized(params: Params, name: str, x: np.ndarray) -> np.ndarray:
    """Three layers with ELUs, of one class's mean features."""
    for fc in ("fc1", "fc2", "fc3"):
        prefix = f"amortization.{name}.{fc}"
        x = params[f"{prefix}.weight"].numpy() @ x + params[f"{prefix}.bias"].numpy()
        if fc != "fc3":
            x = np.where(x > 0, x, np.exp(np.minimum(x, 0)) - 1)
    return x


def posterior_by_hand(learner: VERSA, params: Params, task: Task) -> list[dict[str, np.ndarray]]:
    """Class by class: means and variances of its weights and bias."""
    support = embed(learner, params, task.support_x)
    found = []
    for c in range(task.ways):
        pooled = support[task.support_y.numpy() == c].mean(0)
        kinds = ("weight_mean", "weight_log_variance", "bias_mean", "bias_log_variance")
        found.append({kind: amortized(params, kind, pooled) for kind in kinds})
    return found


def log_mean_by_hand(learner: VERSA, params: Params, task: Task, noise: np.ndarray) -> np.ndarray:
    """log 1/L Σ p(y | x, ψ_l), [Q, N]; ``noise`` is [L, N, features + 1]."""
    posterior = posterior_by_hand(learner, params, task)
    queries = embed(learner, params, task.query_x)
    mean = np.zeros((len(queries), task.ways))
    for head in noise:
        logits = np.empty_like(mean)
        for c, (q, z) in enumerate(zip(posterior, head, strict=True)):
            weight = q["weight_mean"] + np.sqrt(np.exp(q["weight_log_variance"])) * z[:-1]
            bias = q["bias_mean"] + np.sqrt(np.exp(q["bias_log_variance"])) * z[-1]
            logits[:, c] = queries @ weight + bias
        mean += softmax(logits, axis=1) / len(noise)
    return np.log(mean)


def test_without_variance_it_is_the_amortised_linear_classifier() -> None:
    learner, params, task = scene()
    for kind in ("weight", "bias"):
        prefix = f"amortization.{kind}_log_variance.fc3"
        params[f"{prefix}.weight"] = torch.zeros_like(params[f"{prefix}.weight"])
        params[f"{prefix}.bias"] = torch.full_like(params[f"{prefix}.bias"], -80.0)
    posterior = posterior_by_hand(learner, params, task)
    weight = np.stack([q["weight_mean"] for q in posterior])
    bias = np.concatenate([q["bias_mean"] for q in posterior])
    logits = embed(learner, params, task.query_x) @ weight.T + bias
    expected = log_softmax(logits, axis=1)
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9, atol=1e-9)


def test_predictions_are_logarithms_of_mean_probabilities_with_the_stored_draws() -> None:
    learner, params, task = scene()
    draws = params["draws"].numpy().reshape(SAMPLES, 3, FEATURES + 1)
    expected = log_mean_by_hand(learner, params, task, draws)
    actual = predictions(learner, params, task)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)
    np.testing.assert_allclose(logsumexp(actual, axis=1), 0, atol=1e-12)
    assert np.ptp(expected) > 0.5


def test_the_objective_is_equation_5_with_the_noise_of_the_moment() -> None:
    learner, params, task = scene()
    size = learner.noise_size(params, task)
    assert size == SAMPLES * 3 * (FEATURES + 1)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    heads = noise.numpy().reshape(SAMPLES, 3, FEATURES + 1)
    log_mean = log_mean_by_hand(learner, params, task, heads)
    expected = -log_mean[np.arange(len(log_mean)), task.query_y.numpy()].mean()
    loss, prediction = learner.objective(params, task, Moment(0.0, noise))
    np.testing.assert_allclose(loss, expected, rtol=1e-9)
    np.testing.assert_allclose(prediction, log_mean, rtol=1e-9)


def test_unequal_numbers_of_examples_are_averaged_per_class() -> None:
    learner, params, task = scene(shots=4)
    task = replace(task, support_y=torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2]))
    draws = params["draws"].numpy().reshape(SAMPLES, 3, FEATURES + 1)
    expected = log_mean_by_hand(learner, params, task, draws)
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9)


def test_renaming_the_classes_with_their_draws_renames_the_logits() -> None:
    learner, params, task = scene()
    names = torch.tensor([2, 0, 1])
    draws = torch.empty(SAMPLES, 3, FEATURES + 1, dtype=torch.float64)
    draws[:, names] = params["draws"].view(SAMPLES, 3, -1)
    renamed = predictions(
        learner,
        params | {"draws": draws.flatten(0, 1)},
        replace(task, support_y=names[task.support_y]),
    )
    torch.testing.assert_close(renamed[:, names], predictions(learner, params, task))


def test_with_more_ways_than_at_init_no_head_repeats_its_draws() -> None:
    for ways in (4, 10):
        learner, params, task = scene(ways=ways)
        heads = learner.adapt(params, task.support_x, task.support_y, ways)
        assert heads.shape == (SAMPLES, ways, FEATURES + 1)
        mean, deviation = learner.posterior(params, task.support_x, task.support_y, ways)
        for head in (heads - mean) / deviation:
            rows = {tuple(row) for row in head.numpy().round(6).tolist()}
            assert len(rows) == ways


def test_many_draws_approach_the_distribution_of_the_logits() -> None:
    """Gaussian with the variances Σ x² σ² + σ_b², which local reparameterization draws from."""
    learner, params, task = scene()
    learner = replace(learner, hyper=replace(learner.hyper, samples=20_000))
    big = learner.init(3, torch.Generator().manual_seed(5))["draws"].double()
    heads = learner.adapt(params | {"draws": big}, task.support_x, task.support_y, 3).numpy()
    queries = embed(learner, params, task.query_x)
    logits = np.einsum("qf,lcf->lqc", queries, heads[..., :-1]) + heads[:, None, :, -1]
    for c, q in enumerate(posterior_by_hand(learner, params, task)):
        mean = queries @ q["weight_mean"] + q["bias_mean"]
        variance = queries**2 @ np.exp(q["weight_log_variance"]) + np.exp(q["bias_log_variance"])
        standard = (logits[:, :, c] - mean) / np.sqrt(variance)
        np.testing.assert_allclose(standard.mean(0), 0, atol=0.03)
        np.testing.assert_allclose(standard.var(0), 1, atol=0.05)
    between = np.corrcoef(logits[:, 0].T) - np.eye(3)
    np.testing.assert_allclose(between, 0, atol=0.03)


def test_draws_are_kept_out_of_the_outer_loop() -> None:
    learner, params, _ = scene()
    grads, _ = meta_gradient(learner, params, batch=small_tasks(CLASSIFICATION), strategy="loop")
    assert grads.keys() == params.keys() - {"draws"}


def test_defaults_are_the_published_ones() -> None:
    hyper = VERSAHyper()
    assert (hyper.samples, hyper.width, hyper.meta_lr) == (10, 256, 1e-4)


@pytest.mark.parametrize("name", ["samples", "width"])
def test_impossible_hyper_parameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        VERSAHyper(**{name: 0})
