"""Conditional neural processes against NumPy, the Gaussian's closed form, and sinusoids."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autometa.engine import meta_train
from autometa.engine.train import TrainState
from autometa.episodes import EpisodeShape, Task, TaskSource, load
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder, Moment, Params
from autometa.learners.cnp import CNP, CNPHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

SMALL = CNPHyper(width=16, encoder_layers=2, decoder_layers=2)


class TestCNP(LearnerTestCase):
    learner = CNP
    hyper = SMALL
    label_symmetric = True
    training_iterations = 30


def scene(problem: str, *, shots: int = 4, **hyper: object) -> tuple[CNP, Params, Task]:
    learner = CNP(small_encoder(problem), replace(SMALL, **hyper), problem)  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(problem, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: CNP, params: Params, x: Tensor) -> np.ndarray:
    weights = {n.removeprefix("encoder."): v for n, v in params.items() if n.startswith("encoder.")}
    return learner.encoder(weights, x).detach().numpy()


def layers(params: Params, name: str) -> list[tuple[np.ndarray, np.ndarray]]:
    count = sum(key.startswith(f"{name}.") for key in params) // 2
    return [
        (params[f"{name}.{i}.weight"].numpy(), params[f"{name}.{i}.bias"].numpy())
        for i in range(count)
    ]


def mlp(weights: list[tuple[np.ndarray, np.ndarray]], x: np.ndarray) -> np.ndarray:
    """One vector through the layers."""
    for i, (weight, bias) in enumerate(weights):
        x = weight @ x + bias
        if i < len(weights) - 1:
            x = np.maximum(x, 0)
    return x


def regression_by_hand(
    learner: CNP, params: Params, task: Task, x: Tensor
) -> tuple[np.ndarray, np.ndarray]:
    """Equations 1–3, an output and a query at a time: means and standard deviations."""
    support, queries = embed(learner, params, task.support_x), embed(learner, params, x)
    y, h, g = task.support_y.numpy(), layers(params, "h"), layers(params, "g")
    means, spreads = np.empty((2, len(queries), task.ways))
    for d in range(task.ways):
        r = np.zeros(learner.hyper.width)
        for x_i, y_i in zip(support, y[:, d], strict=True):
            r += mlp(h, np.append(x_i, y_i)) / len(y)
        for q, query in enumerate(queries):
            mean, raw = mlp(g, np.concatenate([query, r]))
            means[q, d], spreads[q, d] = mean, 0.1 + 0.9 * np.log1p(np.exp(raw))
    return means, spreads


def logits_by_hand(learner: CNP, params: Params, task: Task, x: Tensor) -> np.ndarray:
    support, queries = embed(learner, params, task.support_x), embed(learner, params, x)
    y, h, g = task.support_y.numpy(), layers(params, "h"), layers(params, "g")
    r = [
        sum(mlp(h, x_i) for x_i in support[y == k]) / (y == k).sum()  # type: ignore[misc]
        for k in range(task.ways)
    ]
    return np.array(
        [[mlp(g, np.concatenate([q, c, sum(r) / 3])).item() for c in r] for q in queries]
    )


@pytest.mark.parametrize("depths", [(1, 1), (3, 4)])
def test_regression_is_the_equations_by_hand(depths: tuple[int, int]) -> None:
    learner, params, task = scene(REGRESSION, encoder_layers=depths[0], decoder_layers=depths[1])
    means, spreads = regression_by_hand(learner, params, task, task.query_x)
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    np.testing.assert_allclose(learner.predict(params, fast, task.query_x), means, rtol=1e-9)
    found = learner.spread(params, fast, task.query_x)
    assert found is not None
    np.testing.assert_allclose(found, spreads, rtol=1e-9)


def test_classification_is_the_equations_by_hand() -> None:
    learner, params, task = scene(CLASSIFICATION)
    task = replace(task, support_y=torch.tensor([2, 0, 0, 0, 0, 1, 0, 1, 1, 1, 2, 0]))
    expected = logits_by_hand(learner, params, task, task.query_x)
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9)
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    assert learner.spread(params, fast, task.query_x) is None


@pytest.mark.parametrize("scored", ["all", "query"])
def test_the_objective_of_regression_is_the_gaussian_log_likelihood(scored: str) -> None:
    learner, params, task = scene(REGRESSION, scored=scored)
    pairs = [(task.query_x, task.query_y), (task.support_x, task.support_y)]
    densities = []
    for x, y in pairs[: 2 if scored == "all" else 1]:
        mean, spread = regression_by_hand(learner, params, task, x)
        density = np.exp(-((y.numpy() - mean) ** 2) / (2 * spread**2))
        densities.append(density / np.sqrt(2 * np.pi * spread**2))
    loss, means = learner.objective(params, task, Moment(0.0, torch.empty(0)))
    np.testing.assert_allclose(loss, -np.log(np.concatenate(densities)).mean(), rtol=1e-9)
    torch.testing.assert_close(means, predictions(learner, params, task))


@pytest.mark.parametrize("scored", ["all", "query"])
def test_the_objective_of_classification_is_the_cross_entropy(scored: str) -> None:
    learner, params, task = scene(CLASSIFICATION, scored=scored)
    x = [task.query_x, task.support_x][: 2 if scored == "all" else 1]
    y = torch.cat([task.query_y, task.support_y]).numpy()
    logits = np.concatenate([logits_by_hand(learner, params, task, part) for part in x])
    p = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    loss, _ = learner.objective(params, task, Moment(0.0, torch.empty(0)))
    expected = -np.log(p[np.arange(len(p)), y[: len(p)]]).mean()
    np.testing.assert_allclose(loss, expected, rtol=1e-9)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
def test_the_support_set_is_a_set(problem: str) -> None:
    """Any order, and as often repeated as one likes, since a mean is taken (for regression)."""
    learner, params, task = scene(problem)
    expected = predictions(learner, params, task)
    for seed in range(5):
        order = torch.randperm(12, generator=torch.Generator().manual_seed(seed))
        mixed = replace(task, support_x=task.support_x[order], support_y=task.support_y[order])
        torch.testing.assert_close(predictions(learner, params, mixed), expected)
    twice = torch.arange(12).repeat(2)
    doubled = replace(task, support_x=task.support_x[twice], support_y=task.support_y[twice])
    torch.testing.assert_close(predictions(learner, params, doubled), expected)


def trained(source: TaskSource, iterations: int) -> tuple[CNP, Params]:
    network = nn.Sequential(nn.Linear(1, 40), nn.Tanh(), nn.Linear(40, 40), nn.Tanh())
    sizes = CNPHyper(width=32, encoder_layers=2, decoder_layers=2)
    hyper = replace(sizes, meta_lr=1e-2, meta_batch=64)
    learner = CNP(Encoder(network.to("meta"), 40), hyper, REGRESSION)
    generator = torch.Generator().manual_seed(1)
    state = TrainState.start(learner, learner.init(1, generator), generator)
    for _ in meta_train(learner, state, source=source, iterations=iterations, strategy="vmap"):
        pass
    return learner, state.params


@pytest.fixture
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.usefixtures("_one_thread")
def test_it_learns_sinusoids() -> None:
    """Of a narrower range of phases than the published, so that it takes seconds."""
    source = load("sinusoid", {"phase_high": 1.0}).source("train", EpisodeShape(1, 5, 20))
    learner, params = trained(source, 150)
    batch = source.sample(100, torch.Generator().manual_seed(1))
    found = torch.stack([predictions(learner, params, task) for task in batch.unbind()])
    assert (found - batch.query_y).square().mean() < 0.3 * batch.query_y.var()


class TwoLevels:
    """y is one standard normal number left of 0 and another right of it; seen is one side."""

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        left, right = torch.randn(2, tasks, 1, 1, generator=generator)
        x = 2 * torch.rand(tasks, 20, 1, generator=generator) - 1
        x[:, :3] = x[:, :3].abs() * torch.randn(tasks, 1, 1, generator=generator).sign()
        y = torch.where(x < 0, left, right)
        return Task(x[:, :3], y[:, :3], x[:, 3:], y[:, 3:], ways=1)


@pytest.mark.usefixtures("_one_thread")
def test_the_spread_is_small_near_the_support_set_and_large_far_from_it() -> None:
    learner, params = trained(TwoLevels(), 150)
    for side in (-1, 1):
        x = side * torch.tensor([[0.4], [0.6], [0.8]])
        fast = learner.adapt(params, x, torch.full((3, 1), 0.7), 1)
        near, far = learner.spread(params, fast, x), learner.spread(params, fast, -x)
        assert near is not None
        assert far is not None
        assert near.max() < 0.4
        assert far.min() > 0.7


@pytest.mark.parametrize("name", ["width", "encoder_layers", "decoder_layers"])
def test_impossible_sizes_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0, but must be at least 1"):
        CNPHyper(**{name: 0})


def test_an_unknown_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="scored is 'none'"):
        CNPHyper(scored="none")
