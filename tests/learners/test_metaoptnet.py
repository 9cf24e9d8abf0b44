"""MetaOptNet's machine against its optimality conditions, liblinear and projected gradients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.svm import LinearSVC

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, START, Params
from autometa.learners.metaoptnet import MetaOptNet, MetaOptNetHyper, support_vectors
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestMetaOptNet(LearnerTestCase):
    learner = MetaOptNet
    label_symmetric = True


def scene(**hyper: object) -> tuple[MetaOptNet, Params, Task]:
    learner = MetaOptNet(small_encoder(CLASSIFICATION), MetaOptNetHyper(**hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=4).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def features(n: int, d: int, ways: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, d)), rng.permutation(np.arange(n) % ways)


def solve(x: np.ndarray, y: np.ndarray, cost: float, steps: int = 20) -> np.ndarray:
    one_hot = torch.tensor(np.eye(y.max() + 1)[y])
    return support_vectors(torch.tensor(x @ x.T), one_hot, cost, steps).numpy()


# Samples, features, ways: fewer and more samples than features, one a class, many classes.
SIZES = [(5, 16, 5), (15, 8, 3), (40, 6, 5), (60, 32, 20)]


@pytest.mark.parametrize("cost", [0.01, 0.1, 3.0])
@pytest.mark.parametrize("size", SIZES)
def test_the_dual_solution_satisfies_the_optimality_conditions(
    size: tuple[int, int, int], cost: float
) -> None:
    """α is feasible, and leaves its bound only at classes whose score, plus 1 if wrong, is best."""
    x, y = features(*size)
    one_hot = np.eye(size[2])[y]
    alpha = solve(x, y, cost)
    room = cost * one_hot - alpha
    assert room.min() > -1e-9
    assert np.abs(alpha.sum(1)).max() < 1e-9
    scores = x @ (alpha.T @ x).T + 1 - one_hot
    lag = scores.max(1, keepdims=True) - scores
    assert (room * lag).max() < 1e-6 * cost


@pytest.mark.parametrize("cost", [0.01, 0.1, 3.0])
@pytest.mark.parametrize("size", SIZES)
def test_primal_and_dual_meet(size: tuple[int, int, int], cost: float) -> None:
    """The hinge losses of the machine by its definition, with no reference to the dual's bounds."""
    x, y = features(*size)
    one_hot = np.eye(size[2])[y]
    alpha = solve(x, y, cost)
    weights = alpha.T @ x
    scores = x @ weights.T
    own = scores[np.arange(len(y)), y]
    hinge = (scores + 1 - one_hot).max(1) - own
    primal = (weights**2).sum() / 2 + cost * hinge.sum()
    dual = (alpha * one_hot).sum() - (weights**2).sum() / 2
    np.testing.assert_allclose(primal, dual, rtol=1e-6)


@pytest.mark.parametrize("size", SIZES[:3])
def test_the_weights_are_those_of_liblinear(size: tuple[int, int, int]) -> None:
    x, y = features(*size)
    machine = LinearSVC(
        multi_class="crammer_singer",
        C=0.1,
        fit_intercept=False,
        tol=1e-10,
        max_iter=100_000,
        random_state=0,
    )
    np.testing.assert_allclose(
        solve(x, y, 0.1).T @ x, machine.fit(x, y).coef_, rtol=1e-5, atol=1e-6
    )


def simplex(v: np.ndarray, total: float) -> np.ndarray:
    """Nearest points of {u ≥ 0, Σ u = total} to rows, by sorting."""
    ordered = -np.sort(-v, 1)
    excess = (np.cumsum(ordered, 1) - total) / np.arange(1, v.shape[1] + 1)
    count = (ordered > excess).sum(1)
    return np.maximum(v - excess[np.arange(len(v)), count - 1][:, None], 0)


def test_the_weights_are_those_of_projected_gradients() -> None:
    x, y = features(12, 20, 4)
    kernel, one_hot, cost = x @ x.T, np.eye(4)[y], 0.1
    room = np.full((12, 4), cost / 4)
    rate = 1 / np.linalg.eigvalsh(kernel).max()
    for _ in range(5000):
        room = simplex(room - rate * (one_hot - kernel @ (cost * one_hot - room)), cost)
    np.testing.assert_allclose(solve(x, y, cost), cost * one_hot - room, atol=1e-7)


def test_separable_classes_are_separated() -> None:
    x, y = features(12, 2, 4)
    x = 0.3 * x + 6 * np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])[y]
    for cost in (0.1, 10.0):
        scores = x @ (solve(x, y, cost).T @ x).T
        assert (scores.argmax(1) == y).all()
    margins = scores[np.arange(12), y][:, None] - scores + np.eye(4)[y]
    assert margins.min() > 1 - 1e-6


@pytest.mark.parametrize("cost", [0.1, 1.0])
def test_the_derivative_is_that_of_finite_differences(cost: float) -> None:
    x, y = features(7, 3, 3)
    one_hot = torch.tensor(np.eye(3)[y])
    given = torch.tensor(x, requires_grad=True)

    def weights(x: torch.Tensor) -> torch.Tensor:
        return support_vectors(x @ x.T, one_hot, cost, 20).T @ x

    assert torch.autograd.gradcheck(weights, given, eps=1e-6, atol=1e-6, rtol=1e-4)


def test_more_iterations_change_nothing() -> None:
    x, y = features(15, 8, 3)
    for steps in (15, 60):  # 15 are the default
        np.testing.assert_allclose(solve(x, y, 0.1, steps), solve(x, y, 0.1), atol=1e-9)


def test_logits_are_scaled_scores_of_the_machine_in_single_precision_too() -> None:
    learner, params, task = scene(cost=0.5, scale=3.0)
    weights = {n.removeprefix("encoder."): v for n, v in params.items() if n != "scale"}
    x, query = (learner.encoder(weights, x).numpy() for x in (task.support_x, task.query_x))
    machine = LinearSVC(
        multi_class="crammer_singer",
        C=0.5,
        fit_intercept=False,
        tol=1e-10,
        max_iter=100_000,
        random_state=0,
    )
    expected = 3 * query @ machine.fit(x, task.support_y.numpy()).coef_.T
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-4, atol=1e-5)
    single = {name: value.float() for name, value in params.items()}
    task = replace(task, support_x=task.support_x.float(), query_x=task.query_x.float())
    actual = predictions(learner, single, task)
    assert actual.dtype == torch.float32
    np.testing.assert_allclose(actual, expected, rtol=1e-3, atol=1e-3)


def test_labels_are_smoothed_in_training_only() -> None:
    learner, params, task = scene(smoothing=0.2)
    log_p = predictions(learner, params, task).log_softmax(1).numpy()
    one_hot = np.eye(3)[task.query_y.numpy()]
    smoothed = 0.8 * one_hot + 0.1 * (1 - one_hot)
    training, _ = learner.objective(params, task, START)
    np.testing.assert_allclose(training, -(smoothed * log_p).sum(1).mean(), rtol=1e-9)
    plain, _ = learner.query_loss(params, task)
    np.testing.assert_allclose(plain, -(one_hot * log_p).sum(1).mean(), rtol=1e-9)


def test_a_diverged_encoder_gives_nan_rather_than_an_exception() -> None:
    one_hot = torch.eye(3, dtype=torch.float64)
    found = support_vectors(torch.full((3, 3), torch.nan, dtype=torch.float64), one_hot, 0.1, 5)
    assert found.isnan().all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cost": 0.0}, "cost is 0"),
        ({"scale": 0.0}, "scale is 0"),
        ({"smoothing": 1.0}, "smoothing is 1"),
        ({"solver_steps": 0}, "solver_steps is 0"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MetaOptNetHyper(**wrong)  # type: ignore[arg-type]
