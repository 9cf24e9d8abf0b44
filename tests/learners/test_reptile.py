"""Reptile against joint training, torch's own optimizers, and the paper's Taylor expansion."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.engine.evaluate import meta_evaluate
from autometa.engine.train import TrainState, meta_train
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Moment, Params
from autometa.learners.reptile import Reptile, ReptileHyper
from autometa.testing.learners import LearnerTestCase, predictions, random_moment
from autometa.testing.small import EasyFamily, small_encoder, small_tasks


class TestReptile(LearnerTestCase):
    learner = Reptile
    hyper = ReptileHyper(inner_optimizer="sgd", inner_lr=0.1, inner_batch=5, evaluation_steps=5)
    exact_gradient = False
    training_iterations = 30


class TestReptileWithAdam(LearnerTestCase):
    """Too slow on the family of images to be trained on it here; the lines are below."""

    learner = Reptile
    hyper = ReptileHyper(inner_lr=5e-3, inner_steps=3, inner_batch=5, evaluation_steps=5)
    exact_gradient = False
    training_iterations = 0


def scene(problem: str, **hyper: object) -> tuple[Reptile, Params, Task]:
    learner = Reptile(small_encoder(problem), ReptileHyper(**hyper), problem)  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(problem)


def loss_of(learner: Reptile, weights: Params, x: Tensor, y: Tensor) -> Tensor:
    encoder = {n[8:]: v for n, v in weights.items() if n.startswith("encoder.")}
    z = functional_call(learner.encoder.module, encoder, (x,))
    outputs = z @ weights["head.weight"].T + weights["head.bias"]
    return (F.mse_loss if learner.problem == REGRESSION else F.cross_entropy)(outputs, y)


def all_of(task: Task) -> tuple[Tensor, Tensor]:
    x = torch.cat([task.support_x, task.query_x])
    return x, torch.cat([task.support_y, task.query_y])


def trained(
    learner: Reptile, params: Params, batches: list[tuple[Tensor, Tensor]]
) -> tuple[Params, list[float]]:
    """Weights and losses by the optimizers of torch."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    rate = learner.hyper.inner_lr
    optimizer: torch.optim.Optimizer = torch.optim.SGD(leaves.values(), rate)
    if learner.hyper.inner_optimizer == "adam":
        optimizer = torch.optim.Adam(leaves.values(), rate, betas=(0.0, 0.999))
    losses = []
    for x, y in batches:
        optimizer.zero_grad()
        loss = loss_of(learner, leaves, x, y)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return {name: value.detach() for name, value in leaves.items()}, losses


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_one_step_of_sgd_is_the_gradient_of_joint_training(problem: str, strategy: str) -> None:
    rate = 0.02
    learner, params, batch = scene(
        problem, inner_optimizer="sgd", inner_lr=rate, inner_steps=1, inner_batch=100
    )
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    joint = torch.stack([loss_of(learner, leaves, *all_of(task)) for task in batch.unbind()]).mean()
    expected = dict(zip(leaves, torch.autograd.grad(joint, leaves.values()), strict=True))
    moment = random_moment(learner, params, batch)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
    actual = {name: g / rate for name, g in grads.items()}
    torch.testing.assert_close(actual, expected, rtol=1e-7, atol=1e-10)
    torch.testing.assert_close(metrics["loss"], joint.detach())


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_steps_on_mini_batches_are_those_of_the_optimizers_of_torch(
    problem: str, optimizer: str, strategy: str
) -> None:
    """12 examples in mini-batches of 5: the third lies across two epochs, the fifth as well."""
    learner, params, batch = scene(
        problem, inner_optimizer=optimizer, inner_lr=0.01, inner_steps=5, inner_batch=5
    )
    assert learner.noise_size(params, batch) == 36
    moment = random_moment(learner, params, batch)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
    moved, losses = [], []
    for task, noise in zip(batch.unbind(), moment.noise.numpy(), strict=True):
        x, y = all_of(task)
        order = np.concatenate([np.argsort(noise[start : start + 12]) for start in (0, 12, 24)])
        batches = [(x[rows], y[rows]) for rows in np.split(order[:25], 5)]
        weights, found = trained(learner, params, batches)
        moved.append(weights)
        losses += found
    for name, actual in grads.items():
        mean = torch.stack([weights[name] for weights in moved]).mean(0)
        # Adam divides by √v: rounding of the smallest gradients shows.
        torch.testing.assert_close(params[name] - actual, mean, rtol=1e-6, atol=1e-7)
    assert float(metrics["loss"]) == pytest.approx(np.mean(losses))


def test_two_steps_have_the_expansion_of_the_paper() -> None:
    """Section 5.1, k = 2: (φ − W)/α = g₁ + g₂ − α H₂ g₁ + O(α²)."""
    learner, params, batch = scene(
        REGRESSION, inner_optimizer="sgd", inner_lr=1e-2, inner_steps=2, inner_batch=6
    )
    task = next(batch.unbind())
    noise = random_moment(learner, params, batch).noise[0]
    x, y = all_of(task)
    first, second = noise.argsort()[:6], noise.argsort()[6:]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    g1 = torch.autograd.grad(loss_of(learner, leaves, x[first], y[first]), leaves.values())
    loss2 = loss_of(learner, leaves, x[second], y[second])
    g2 = torch.autograd.grad(loss2, leaves.values(), create_graph=True)
    slope = sum((a * b).sum() for a, b in zip(g1, g2, strict=True))
    hg = torch.autograd.grad(slope, leaves.values())
    rests = []
    for rate in (1e-2, 1e-3):
        hyper = ReptileHyper(inner_optimizer="sgd", inner_lr=rate, inner_steps=2, inner_batch=6)
        reptile = Reptile(learner.encoder, hyper, REGRESSION)
        grads, _ = reptile.meta_grad(params, task, Moment(0.0, noise))
        expansion = [a + b - rate * c for a, b, c in zip(g1, g2, hg, strict=True)]
        differences = [grads[n] / rate - e for n, e in zip(leaves, expansion, strict=True)]
        rests.append(float(torch.cat([d.detach().flatten() for d in differences]).norm()))
    assert rests[0] / rests[1] == pytest.approx(100, rel=0.1)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_new_task_is_trained_on_for_its_own_number_of_steps(problem: str, optimizer: str) -> None:
    learner, params, batch = scene(
        problem, inner_optimizer=optimizer, inner_lr=0.01, evaluation_steps=7, inner_steps=2
    )
    task = next(batch.unbind())
    weights, _ = trained(learner, params, [(task.support_x, task.support_y)] * 7)
    expected = learner.predict(params, weights, task.query_x)
    with torch.no_grad():
        actual = predictions(learner, params, task)
    torch.testing.assert_close(actual, expected, rtol=1e-5, atol=1e-6)


def test_only_the_order_of_mini_batches_depends_on_noise() -> None:
    learner, params, batch = scene(CLASSIFICATION, inner_steps=2, inner_batch=6)
    one, other = (
        meta_gradient(
            learner,
            params,
            batch=batch,
            strategy="loop",
            moment=Moment(0.0, torch.randn(3, 12, generator=torch.Generator().manual_seed(seed))),
        )[0]["head.bias"]
        for seed in (0, 1)
    )
    assert not torch.allclose(one, other, rtol=1e-3)


def test_adam_in_the_inner_loop_trains() -> None:
    learner, _, _ = scene(REGRESSION, inner_lr=5e-3, evaluation_steps=5, meta_lr=1e-2)
    family, generator = EasyFamily(REGRESSION), torch.Generator().manual_seed(0)
    start = learner.init(1, generator)
    state = TrainState.start(learner, start, generator)
    list(meta_train(learner, state, source=family, iterations=20, strategy="loop"))
    before, after = (
        meta_evaluate(
            learner,
            params,
            source=family,
            tasks=40,
            generator=torch.Generator().manual_seed(1),
            batch=8,
            strategy="loop",
        ).mean
        for params in (start, state.params)
    )
    assert after < before / 3


def test_defaults_are_the_published_ones() -> None:
    hyper = ReptileHyper()
    assert (hyper.inner_optimizer, hyper.inner_lr, hyper.meta_batch) == ("adam", 1e-3, 5)
    assert (hyper.inner_steps, hyper.inner_batch, hyper.evaluation_steps) == (5, 10, 50)


@pytest.mark.parametrize(
    "wrong",
    [
        {"inner_steps": 0},
        {"inner_batch": 0},
        {"evaluation_steps": -1},
        {"inner_lr": 0.0},
        {"inner_optimizer": "rmsprop"},
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value!r}"):
        ReptileHyper(**wrong)  # type: ignore[arg-type]
