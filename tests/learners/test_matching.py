"""Matching networks against NumPy and against PyTorch's own LSTM modules."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from scipy.special import softmax
from torch import Tensor, nn

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Params, under
from autometa.learners.matching import Matching, MatchingHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

FEATURES = 24


class TestMatching(LearnerTestCase):
    learner = Matching
    label_symmetric = True
    training_iterations = 30


class TestMatchingWithFullContext(LearnerTestCase):
    learner = Matching
    hyper = MatchingHyper(full_context=True, processing_steps=2, scale=10.0)
    label_symmetric = True
    order_invariant = False


def scene(*, shots: int = 4, **hyper: object) -> tuple[Matching, Params, Task]:
    learner = Matching(small_encoder(CLASSIFICATION), MatchingHyper(**hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: Matching, params: Params, x: Tensor) -> Tensor:
    return learner.encoder(under("encoder", params), x)


def by_hand(queries: Tensor, support: Tensor, y: Tensor, scale: float = 1.0) -> np.ndarray:
    """Equation 1 in NumPy, as probabilities."""
    f, g = queries.numpy(), support.numpy()
    cosine = f @ g.T / (np.linalg.norm(f, axis=1)[:, None] * np.linalg.norm(g, axis=1))
    return softmax(scale * cosine, axis=1) @ np.eye(3)[y.numpy()]


@pytest.mark.parametrize("scale", [1.0, 12.0])
def test_the_prediction_is_the_mean_label_under_cosine_attention(scale: float) -> None:
    learner, params, task = scene(scale=scale)
    queries, support = (embed(learner, params, x) for x in (task.query_x, task.support_x))
    expected = by_hand(queries, support, task.support_y, scale)
    actual = predictions(learner, params, task)
    np.testing.assert_allclose(actual.exp(), expected, rtol=1e-9)
    torch.testing.assert_close(actual.logsumexp(-1), torch.zeros(6, dtype=torch.float64))


def test_with_one_shot_it_is_the_soft_cosine_nearest_neighbour() -> None:
    learner, params, task = scene(shots=1)
    mixed = torch.tensor([2, 0, 1])
    task = replace(task, support_x=task.support_x[mixed], support_y=task.support_y[mixed])
    queries, support = (
        F.normalize(embed(learner, params, x)).numpy() for x in (task.query_x, task.support_x)
    )
    cosine = queries @ support.T
    expected = softmax(cosine, axis=1)[:, np.argsort(task.support_y.numpy())]
    actual = predictions(learner, params, task)
    np.testing.assert_allclose(actual.softmax(-1), expected, rtol=1e-9)
    nearest = task.support_y.numpy()[((queries[:, None] - support) ** 2).sum(-1).argmin(1)]
    np.testing.assert_array_equal(actual.argmax(1), nearest)


def test_unequal_numbers_of_examples_vote_by_their_number() -> None:
    learner, params, task = scene()
    y = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    queries, support = (embed(learner, params, x) for x in (task.query_x, task.support_x))
    actual = predictions(learner, params, replace(task, support_y=y))
    np.testing.assert_allclose(actual.exp(), by_hand(queries, support, y), rtol=1e-9)


def test_the_loss_is_the_negative_log_likelihood() -> None:
    learner, params, task = scene()
    queries, support = (embed(learner, params, x) for x in (task.query_x, task.support_x))
    chosen = by_hand(queries, support, task.support_y)[range(6), task.query_y.numpy()]
    loss, _ = learner.query_loss(params, task)
    np.testing.assert_allclose(loss, -np.log(chosen).mean(), rtol=1e-9)


def test_an_impossible_match_has_a_finite_loss() -> None:
    learner, params, task = scene(scale=30.0)
    learner = replace(learner, hyper=replace(learner.hyper, scale=1e6))
    assert learner.query_loss(params, task)[0].isfinite()


def full_context_by_hand(learner: Matching, params: Params, task: Task) -> tuple[Tensor, Tensor]:
    """Appendix A with ``nn.LSTM`` and ``nn.LSTMCell``; f [Q, features] and g [N·K, features]."""
    reader = nn.LSTM(FEATURES, FEATURES, bidirectional=True).double()
    reader.load_state_dict(
        {
            f"{name}_l0{suffix}": value
            for prefix, suffix in (("forward", ""), ("backward", "_reverse"))
            for name, value in under(prefix, params).items()
        }
    )
    cell = nn.LSTMCell(2 * FEATURES, FEATURES).double()
    cell.load_state_dict(under("attention", params))
    simple = embed(learner, params, task.support_x)
    with torch.no_grad():
        states, _ = reader(simple)
        g = states[:, :FEATURES] + states[:, FEATURES:] + simple
        found = []
        for f in embed(learner, params, task.query_x):
            hidden, memory = f, torch.zeros(FEATURES, dtype=torch.float64)
            for _ in range(learner.hyper.processing_steps):
                weights = [torch.exp(hidden @ row) for row in g]
                read = sum(w * row for w, row in zip(weights, g, strict=True)) / sum(weights)
                output, memory = cell(torch.cat([f, read])[None], (hidden[None], memory[None]))
                hidden, memory = output[0] + f, memory[0]
            found.append(hidden)
    return torch.stack(found), g


@pytest.mark.parametrize("steps", [1, 3])
def test_full_context_embeddings_are_those_of_torch_lstms(steps: int) -> None:
    learner, params, task = scene(shots=2, full_context=True, processing_steps=steps)
    f, g = full_context_by_hand(learner, params, task)
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    torch.testing.assert_close(fast["support"], g, rtol=1e-9, atol=1e-9)
    actual = predictions(learner, params, task)
    np.testing.assert_allclose(actual.exp(), by_hand(f, g, task.support_y), rtol=1e-9)


def test_full_context_reads_the_support_set_in_its_order() -> None:
    learner, params, task = scene(shots=2, full_context=True)
    turned = replace(task, support_x=task.support_x.flip(0), support_y=task.support_y.flip(0))
    expected, actual = (predictions(learner, params, each) for each in (task, turned))
    assert (expected - actual).abs().max() > 1e-6


def test_defaults_are_the_published_ones() -> None:
    hyper = MatchingHyper()
    assert (hyper.scale, hyper.full_context, hyper.meta_lr) == (1.0, False, 1e-3)


@pytest.mark.parametrize("name", ["scale", "processing_steps"])
def test_impossible_numbers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        MatchingHyper(**{name: 0})
