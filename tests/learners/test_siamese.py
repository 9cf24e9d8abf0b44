"""Siamese networks against weighted distances and pair losses in NumPy."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations

import numpy as np
import pytest
import torch
from scipy.special import expit, log_expit
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, START, Params, under
from autometa.learners.siamese import Siamese, SiameseHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestSiamese(LearnerTestCase):
    learner = Siamese
    hyper = SiameseHyper(units=16)
    label_symmetric = True
    training_iterations = 80
    training_lr = 2e-2


class TestSiameseOnFeaturesByTheMean(LearnerTestCase):
    learner = Siamese
    hyper = SiameseHyper(units=0, pooling="mean")
    label_symmetric = True
    training_iterations = 60


def scene(*, shots: int = 3, **hyper: object) -> tuple[Siamese, Params, Task]:
    learner = Siamese(small_encoder(CLASSIFICATION), SiameseHyper(**{"units": 16, **hyper}))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: Siamese, params: Params, x: Tensor) -> np.ndarray:
    z = learner.encoder(under("encoder", params), x).numpy()
    if learner.hyper.units == 0:
        return z
    return expit(z @ params["embed.weight"].numpy().T + params["embed.bias"].numpy())


def similarity(params: Params, one: np.ndarray, other: np.ndarray) -> float:
    alpha, bias = (params[f"similarity.{name}"].numpy() for name in ("weight", "bias"))
    return float((alpha[0] * np.abs(one - other)).sum() + bias[0])


def table(learner: Siamese, params: Params, task: Task) -> np.ndarray:
    """Similarities [Q, N·K], pair by pair."""
    support = embed(learner, params, task.support_x)
    queries = embed(learner, params, task.query_x)
    return np.array([[similarity(params, q, s) for s in support] for q in queries])


@pytest.mark.parametrize("units", [0, 16])
@pytest.mark.parametrize("pooling", ["max", "mean"])
def test_a_class_is_as_similar_as_its_examples(units: int, pooling: str) -> None:
    learner, params, task = scene(units=units, pooling=pooling)
    y = torch.tensor([0, 2, 0, 1, 0, 0, 2, 0, 0])
    pairs = table(learner, params, task)
    groups = [pairs[:, y.numpy() == k] for k in range(3)]
    expected = [getattr(np, pooling)(group, axis=1) for group in groups]
    actual = predictions(learner, params, replace(task, support_y=y))
    np.testing.assert_allclose(actual.T, expected, rtol=1e-9, atol=1e-12)


def test_weights_of_both_signs_are_in_the_distance() -> None:
    _, params, _ = scene()
    weight = params["similarity.weight"]
    assert weight.min() < 0 < weight.max()


def test_a_query_goes_to_the_class_of_its_most_similar_example() -> None:
    learner, params, task = scene()
    nearest = task.support_y.numpy()[table(learner, params, task).argmax(1)]
    np.testing.assert_array_equal(predictions(learner, params, task).argmax(1), nearest)


def test_with_negative_weights_a_known_example_finds_itself() -> None:
    learner, params, task = scene()
    params["similarity.weight"] = -params["similarity.weight"].abs()
    task = replace(task, query_x=task.support_x, query_y=task.support_y)
    np.testing.assert_array_equal(predictions(learner, params, task).argmax(1), task.support_y)


@pytest.mark.parametrize("shots", [1, 3])
def test_the_objective_is_the_balanced_cross_entropy_of_all_pairs(shots: int) -> None:
    learner, params, task = scene(shots=shots)
    z = np.concatenate([embed(learner, params, x) for x in (task.support_x, task.query_x)])
    y = [*task.support_y.tolist(), *task.query_y.tolist()]
    alike, different = [], []
    for i, j in combinations(range(len(y)), 2):
        logit = similarity(params, z[i], z[j])
        if y[i] == y[j]:
            alike.append(-log_expit(logit))
        else:
            different.append(-log_expit(-logit))
    loss, logits = learner.objective(params, task, START)
    np.testing.assert_allclose(loss, (np.mean(alike) + np.mean(different)) / 2, rtol=1e-9)
    torch.testing.assert_close(logits, predictions(learner, params, task))


def test_evaluation_has_the_negative_log_likelihood_of_the_odds() -> None:
    learner, params, task = scene(shots=1)
    p = expit(table(learner, params, task))
    odds = (p / (1 - p))[:, np.argsort(task.support_y.numpy())]
    chosen = (odds / odds.sum(1, keepdims=True))[range(6), task.query_y.numpy()]
    loss, _ = learner.query_loss(params, task)
    np.testing.assert_allclose(loss, -np.log(chosen).mean(), rtol=1e-9)


def test_without_units_there_is_no_layer_between() -> None:
    learner, params, _ = scene(units=0)
    assert not under("embed", params)
    assert params["similarity.weight"].shape == (1, learner.encoder.features)


def test_defaults_are_the_published_ones() -> None:
    hyper = SiameseHyper()
    assert (hyper.units, hyper.pooling) == (4096, "max")


def test_fewer_than_no_units_are_refused() -> None:
    with pytest.raises(ValueError, match="units is -1"):
        SiameseHyper(units=-1)
