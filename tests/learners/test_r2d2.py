"""R2-D2 against NumPy's normal equations, LR-D2 against SciPy's minimum of the logistic loss."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Params
from autometa.learners.r2d2 import R2D2, R2D2Hyper, dual_ridge, logistic, primal_ridge, ridge
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestR2D2(LearnerTestCase):
    learner = R2D2
    label_symmetric = True


class TestLRD2(LearnerTestCase):
    learner = R2D2
    hyper = R2D2Hyper(solver="logistic", newton_steps=3)
    label_symmetric = True


def scene(problem: str, shots: int, **hyper: object) -> tuple[R2D2, Params, Task]:
    learner = R2D2(small_encoder(problem), R2D2Hyper(**hyper), problem)  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(problem, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def design(learner: R2D2, params: Params, x: Tensor) -> np.ndarray:
    """Features of the encoder and a column of ones."""
    weights = {n.removeprefix("encoder."): v for n, v in params.items() if n.startswith("encoder.")}
    z = learner.encoder(weights, x).detach().numpy()
    return np.concatenate([z, np.ones((len(z), 1))], 1)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("shots", [2, 15])  # fewer examples than features, and more
def test_predictions_are_those_of_the_normal_equations(problem: str, shots: int) -> None:
    learner, params, task = scene(problem, shots, penalty=0.3)
    params |= {"scale": torch.tensor(3.0).double(), "offset": torch.tensor(-0.75).double()}
    x, query = (design(learner, params, x) for x in (task.support_x, task.query_x))
    assert (len(x) < x.shape[1]) == (shots == 2)
    y = task.support_y.numpy()
    y = np.eye(3)[y] if problem == CLASSIFICATION else y
    penalty = np.exp(params["log_penalty"].item())
    weights = np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ y)
    expected = 3.0 * query @ weights - 0.75
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9, atol=1e-9)


def test_ridge_regression_is_least_squares_with_the_penalty_as_rows() -> None:
    """‖X w − y‖² + λ‖w‖² is the squared error of [X; √λ I] on [y; 0]."""
    rng = np.random.default_rng(0)
    for n, d in ((4, 9), (9, 4), (5, 5)):
        x, y = rng.normal(size=(n, d)), rng.normal(size=(n, 2))
        rows = np.concatenate([x, np.sqrt(0.2) * np.eye(d)])
        expected = np.linalg.lstsq(rows, np.concatenate([y, np.zeros((d, 2))]), rcond=None)[0]
        args = torch.tensor(x), torch.tensor(y), torch.tensor(0.2, dtype=torch.float64)
        for solve in (ridge, primal_ridge, dual_ridge):
            np.testing.assert_allclose(solve(*args), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize(("n", "d"), [(4, 9), (9, 4)])
def test_both_forms_have_the_same_gradients(n: int, d: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, d, generator=generator, dtype=torch.float64).requires_grad_()
    y = torch.randn(n, 2, generator=generator, dtype=torch.float64).requires_grad_()
    penalty = torch.tensor(0.4, dtype=torch.float64).requires_grad_()

    def grads(solve: Callable[[Tensor, Tensor, Tensor], Tensor]) -> tuple[Tensor, ...]:
        return torch.autograd.grad(solve(x, y, penalty).cos().sum(), (x, y, penalty))

    torch.testing.assert_close(grads(dual_ridge), grads(primal_ridge))


def binary_minimum(x: np.ndarray, signs: np.ndarray, penalty: float) -> np.ndarray:
    """Minimum of Σ log(1 + exp(−y wᵀx)) + λ/2 ‖w‖² by SciPy, y of ±1."""

    def loss(w: np.ndarray) -> tuple[float, np.ndarray]:
        margins = signs * (x @ w)
        slope = -signs / (1 + np.exp(margins))
        value = np.logaddexp(0, -margins).sum() + penalty / 2 * w @ w
        return value, x.T @ slope + penalty * w

    found = minimize(loss, np.zeros(x.shape[1]), jac=True, method="BFGS", options={"gtol": 1e-11})
    return found.x


@pytest.mark.parametrize("shots", [2, 15])
def test_newtons_steps_converge_to_the_minimum_of_the_logistic_loss(shots: int) -> None:
    learner, params, task = scene(
        CLASSIFICATION, shots, solver="logistic", newton_steps=10, penalty=0.1
    )
    x, query = (design(learner, params, x) for x in (task.support_x, task.query_x))
    y = task.support_y.numpy()
    penalty = params["log_penalty"].exp().item()
    weights = np.stack([binary_minimum(x, 2.0 * (y == k) - 1, penalty) for k in range(3)], 1)
    np.testing.assert_allclose(predictions(learner, params, task), query @ weights, atol=1e-6)


@pytest.mark.parametrize(("n", "d"), [(6, 10), (12, 4)])
def test_each_step_is_newtons(n: int, d: int) -> None:
    """w − H⁻¹ g from 0, for each class by itself."""
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(n, d)), rng.integers(0, 3, n)
    for steps in (1, 2, 3):
        expected = np.zeros((d, 3))
        for k in range(3):
            for _ in range(steps):
                mean = 1 / (1 + np.exp(-x @ expected[:, k]))
                gradient = x.T @ (mean - (y == k)) + 0.5 * expected[:, k]
                hessian = (x.T * mean * (1 - mean)) @ x + 0.5 * np.eye(d)
                expected[:, k] -= np.linalg.solve(hessian, gradient)
        penalty = torch.tensor(0.5, dtype=torch.float64)
        actual = logistic(torch.tensor(x), torch.tensor(np.eye(3)[y]), penalty, steps)
        np.testing.assert_allclose(actual, expected, rtol=1e-9, atol=1e-12)


def test_features_far_from_zero_leave_the_logistic_solution_finite() -> None:
    x = 1e3 * torch.randn(6, 20, generator=torch.Generator().manual_seed(0))
    one_hot = torch.eye(3).repeat(2, 1)
    weights = logistic(x, one_hot, torch.tensor(1e-2), 10)
    assert weights.isfinite().all()
    assert ((x @ weights).argmax(1) == one_hot.argmax(1)).all()


def test_outputs_start_as_the_solver_leaves_them_unless_they_are_fitted_to_one_hot_labels() -> None:
    for problem, solver, scale in (
        (CLASSIFICATION, "ridge", 10.0),
        (CLASSIFICATION, "logistic", 1.0),
        (REGRESSION, "ridge", 1.0),
    ):
        _, params, _ = scene(problem, 1, solver=solver)
        assert (params["scale"], params["offset"], params["log_penalty"]) == (scale, 0, 0)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"penalty": 0.0}, "penalty is 0"),
        ({"scale": -1.0}, "scale is -1"),
        ({"newton_steps": 0}, "newton_steps is 0"),
        ({"solver": "lasso"}, "solver is 'lasso'"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        R2D2Hyper(**wrong)  # type: ignore[arg-type]
