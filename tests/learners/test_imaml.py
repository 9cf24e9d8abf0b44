"""iMAML against closed forms, hand-written unrolling and ``numpy.linalg.solve``."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import Identity
from torch import Tensor
from torch.func import functional_call

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder, Params
from autometa.learners.imaml import IMAML, IMAMLHyper, conjugate_gradients
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks

ROOT = Path(__file__).parents[2]


class TestIMAML(LearnerTestCase):
    """Far from the inner minimum, so that the implicit gradient is not the objective's."""

    learner = IMAML
    hyper = IMAMLHyper(inner_steps=2, cg_steps=2)
    exact_gradient = False


def test_few_steps_and_the_default_penalty_give_a_finite_meta_gradient_alike_in_a_batch() -> None:
    learner = IMAML(small_encoder(CLASSIFICATION), IMAMLHyper())
    params = {n: v.double() for n, v in learner.init(3, torch.Generator()).items()}
    batch = small_tasks(CLASSIFICATION)

    def grads(sx: Tensor, sy: Tensor, qx: Tensor, qy: Tensor) -> Params:
        return learner.meta_grad(params, Task(sx, sy, qx, qy, ways=3))[0]

    inputs = batch.support_x, batch.support_y, batch.query_x, batch.query_y
    batched = torch.func.vmap(grads)(*inputs)
    for i, row in enumerate(zip(*inputs, strict=True)):
        alone = grads(*row)
        torch.testing.assert_close({name: v[i] for name, v in batched.items()}, alone)
        assert all(value.isfinite().all() for value in alone.values())


FEATURES, OUTPUTS, PENALTY = 4, 2, 0.7


def linear_task() -> Task:
    rng = torch.Generator().manual_seed(0)
    x, query_x = torch.randn(2, 7, FEATURES, generator=rng, dtype=torch.float64)
    y, query_y = torch.randn(2, 7, OUTPUTS, generator=rng, dtype=torch.float64)
    return Task(x, y, query_x, query_y, ways=OUTPUTS)


def linear_grads(inner_steps: int, cg_steps: int) -> tuple[np.ndarray, np.ndarray]:
    """Meta-gradient of a linear model, and θ, as [features + 1, outputs]."""
    hyper = IMAMLHyper(inner_steps=inner_steps, inner_lr=0.5, penalty=PENALTY, cg_steps=cg_steps)
    learner = IMAML(Encoder(Identity(), FEATURES), hyper, REGRESSION)
    params = {n: v.double() for n, v in learner.init(OUTPUTS, torch.Generator()).items()}
    grads, _ = learner.meta_grad(params, linear_task())
    return stacked(grads), stacked(params)


def stacked(head: Params) -> np.ndarray:
    return np.concatenate([head["head.weight"].numpy().T, head["head.bias"].numpy()[None]])


def exact(theta: np.ndarray) -> np.ndarray:
    """φ* = (H + λI)⁻¹ (b + λθ), and the gradient λ (H + λI)⁻¹ (H_q φ* − b_q), in closed form."""

    def quadratic(x: Tensor, y: Tensor) -> tuple[np.ndarray, np.ndarray]:
        design = np.concatenate([x.numpy(), np.ones((len(x), 1))], 1)
        return 2 * design.T @ design / y.numel(), 2 * design.T @ y.numpy() / y.numel()

    task = linear_task()
    hessian, b = quadratic(task.support_x, task.support_y)
    query_hessian, query_b = quadratic(task.query_x, task.query_y)
    system = hessian + PENALTY * np.eye(FEATURES + 1)
    minimum = np.linalg.solve(system, b + PENALTY * theta)
    return PENALTY * np.linalg.solve(system, query_hessian @ minimum - query_b)


def test_linear_regression_has_the_closed_form() -> None:
    """As many conjugate gradients as eigenvalues solve the system; fewer come ever closer."""
    errors = []
    for steps in range(1, FEATURES + 2):
        grads, theta = linear_grads(80, steps)
        errors.append(np.linalg.norm(grads - exact(theta)) / np.linalg.norm(exact(theta)))
    assert errors[0] > 1e-2
    assert all(later < 0.7 * sooner for sooner, later in pairwise(errors))
    assert errors[-1] < 1e-10


def test_the_error_falls_with_the_inner_steps() -> None:
    errors = []
    for steps in (1, 5, 10, 20, 80):
        grads, theta = linear_grads(steps, FEATURES + 1)
        errors.append(np.abs(grads - exact(theta)).max())
    assert all(later < 0.5 * sooner for sooner, later in pairwise(errors))
    assert errors[-1] < 1e-8


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
def test_meta_gradient_is_that_through_a_long_unrolled_inner_loop(problem: str) -> None:
    """The proximal inner loop by hand, differentiated by ``torch.autograd`` step by step.

    On a smooth network: at the kinks of rectifiers gradient steps never come to rest.
    """
    hyper = IMAMLHyper(inner_steps=60, inner_lr=0.1, penalty=5.0, cg_steps=25)
    learner = IMAML(small_encoder(REGRESSION), hyper, problem)
    params = {n: v.double() for n, v in learner.init(3, torch.Generator()).items()}
    task = next(small_tasks(REGRESSION).unbind())
    if problem == CLASSIFICATION:
        task = replace(task, support_y=task.support_y.argmax(1), query_y=task.query_y.argmax(1))
    names = [name.removeprefix("encoder.") for name in params]
    theta = [value.clone().requires_grad_() for value in params.values()]

    def loss(weights: list[Tensor], x: Tensor, y: Tensor) -> Tensor:
        body = dict(zip(names[:-2], weights[:-2], strict=True))
        out = F.linear(functional_call(learner.encoder.module, body, (x,)), *weights[-2:])
        return F.mse_loss(out, y) if problem == REGRESSION else F.cross_entropy(out, y)

    weights = theta
    for _ in range(60):
        pulls = [((w - t) ** 2).sum() for w, t in zip(weights, theta, strict=True)]
        value = loss(weights, task.support_x, task.support_y) + 5.0 / 2 * torch.stack(pulls).sum()
        steps = torch.autograd.grad(value, weights, create_graph=True)
        weights = [w - 0.1 * g for w, g in zip(weights, steps, strict=True)]
    query = loss(weights, task.query_x, task.query_y)
    expected = dict(zip(params, torch.autograd.grad(query, theta), strict=True))
    grads, metrics = learner.meta_grad(params, task)
    torch.testing.assert_close(metrics["loss"], query.detach())
    torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-12)
    first_order = replace(learner, hyper=replace(hyper, cg_steps=1)).meta_grad(params, task)[0]
    assert not torch.allclose(first_order["head.weight"], expected["head.weight"], rtol=1e-2)


def test_conjugate_gradients_solve_linear_systems() -> None:
    rng = np.random.default_rng(0)
    factor, target = rng.normal(size=(12, 12)), rng.normal(size=12)
    matrix = factor @ factor.T + np.eye(12)
    expected = np.linalg.solve(matrix, target)
    for steps in (12, 13, 40, 200):  # going on after the end does no harm
        actual = conjugate_gradients(torch.tensor(matrix).mv, torch.tensor(target), steps)
        np.testing.assert_allclose(actual, expected, rtol=1e-6 if steps == 12 else 1e-9)


def test_a_solved_system_stays_solved_and_zero_is_solved_by_zero() -> None:
    target = torch.tensor([3.0, -4.0], dtype=torch.float64)
    for steps in (1, 2, 5):
        found = conjugate_gradients(lambda vector: 2 * vector, target, steps)
        assert torch.equal(found, target / 2)
        zero = torch.zeros_like(target)
        assert torch.equal(conjugate_gradients(lambda vector: 2 * vector, zero, steps), zero)


def test_a_direction_without_positive_curvature_ends_the_iteration() -> None:
    saddle = torch.diag(torch.tensor([1.0, -1.0], dtype=torch.float64))
    along = torch.tensor([1.0, 0.5], dtype=torch.float64)  # curvature 0.75, then negative
    against = torch.tensor([0.5, 1.0], dtype=torch.float64)
    first = along * (1.25 / 0.75)
    for steps in (1, 2, 6):
        torch.testing.assert_close(conjugate_gradients(saddle.mv, along, steps), first)
        assert torch.equal(conjugate_gradients(saddle.mv, against, steps), against)
    large = conjugate_gradients(saddle.mv, 1e30 * along, 40)
    torch.testing.assert_close(large, 1e30 * first)


@pytest.fixture
def memory(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(ROOT))
    import benchmarks.imaml_memory

    return benchmarks.imaml_memory


def test_memory_counts_what_a_graph_keeps_alive(memory: ModuleType) -> None:
    leaf = torch.zeros(1000, requires_grad=True)
    with memory.LiveBytes() as live:
        y = leaf.exp().exp().reshape(10, 100)  # each exp keeps its result for the backward pass
        assert live.live == 8000
        del y
        assert (live.live, live.peak) == (0, 8000)
        for _ in range(5):
            leaf.detach().exp()
        assert (live.live, live.peak) == (0, 8000)


def test_memory_doesnt_grow_with_the_inner_steps(memory: ModuleType) -> None:
    task = next(small_tasks(CLASSIFICATION).unbind())
    found = memory.peaks(small_encoder(CLASSIFICATION), task, (1, 2, 12))
    once, twice, often = found["iMAML"]
    assert once == twice == often
    once, _, often = found["MAML"]
    assert often > 4 * once


@pytest.mark.parametrize("name", ["inner_steps", "inner_lr", "penalty", "cg_steps"])
def test_zeros_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        IMAMLHyper(**{name: 0})
