"""Prototypical networks against NumPy, linear discriminant analysis, and the paper's settings."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Params
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestProtoNet(LearnerTestCase):
    learner = ProtoNet
    label_symmetric = True


class TestCosineProtoNetWithLearnedScale(LearnerTestCase):
    learner = ProtoNet
    hyper = ProtoNetHyper(distance="cosine", scale=5.0, learn_scale=True)
    label_symmetric = True


def scene(**hyper: object) -> tuple[ProtoNet, Params, Task]:
    learner = ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(**hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=4).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: ProtoNet, params: Params, x: Tensor) -> np.ndarray:
    weights = {n.removeprefix("encoder."): v for n, v in params.items() if n != "log_scale"}
    return learner.encoder(weights, x).detach().numpy()


def class_means(z: np.ndarray, y: Tensor) -> np.ndarray:
    return np.stack([z[y.numpy() == k].mean(0) for k in range(3)])


def test_prototypes_are_the_class_means() -> None:
    learner, params, task = scene()
    expected = class_means(embed(learner, params, task.support_x), task.support_y)
    actual = learner.adapt(params, task.support_x, task.support_y, task.ways)
    np.testing.assert_allclose(actual, expected, rtol=1e-12)


def test_unequal_numbers_of_examples_are_averaged_per_class() -> None:
    learner, params, task = scene()
    y = torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 2, 2])
    expected = class_means(embed(learner, params, task.support_x), y)
    np.testing.assert_allclose(learner.adapt(params, task.support_x, y, 3), expected, rtol=1e-12)


def test_logits_are_negative_squared_distances() -> None:
    learner, params, task = scene()
    means = class_means(embed(learner, params, task.support_x), task.support_y)
    queries = embed(learner, params, task.query_x)
    expected = -((queries[:, None] - means[None]) ** 2).sum(-1)
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9, atol=1e-9)


def test_class_probabilities_are_those_of_discriminant_analysis() -> None:
    """Section 2.3: a linear model, w = 2c and b = −c·c; in LDA the covariance is I/2."""
    learner, params, task = scene()
    means = class_means(embed(learner, params, task.support_x), task.support_y)
    linear = embed(learner, params, task.query_x) @ (2 * means).T - (means**2).sum(1)
    expected = np.exp(linear) / np.exp(linear).sum(1, keepdims=True)
    actual = predictions(learner, params, task).softmax(-1)
    np.testing.assert_allclose(actual, expected, rtol=1e-9)


def test_cosine_logits() -> None:
    learner, params, task = scene(distance="cosine", scale=7.0)
    means = class_means(embed(learner, params, task.support_x), task.support_y)
    queries = embed(learner, params, task.query_x)
    lengths = np.linalg.norm(queries, axis=1)[:, None] * np.linalg.norm(means, axis=1)
    expected = 7 * queries @ means.T / lengths
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-6)


def test_the_scale_is_learned_only_when_asked() -> None:
    for learn in (False, True):
        learner, params, _ = scene(learn_scale=learn)
        grads, _ = meta_gradient(
            learner, params, batch=small_tasks(CLASSIFICATION), strategy="loop"
        )
        assert ("log_scale" in grads) == learn


def test_defaults_are_the_published_ones() -> None:
    hyper = ProtoNetHyper()
    assert (hyper.meta_lr, hyper.meta_batch, hyper.meta_schedule) == (1e-3, 1, "halving")
    assert (hyper.distance, hyper.scale, hyper.learn_scale, hyper.way_factor) == (
        "euclidean",
        1.0,
        False,
        3,
    )
    learner, params, task = scene()
    assert params["log_scale"] == 0
    doubled = replace(learner, hyper=replace(hyper, scale=2.0)).init(3, torch.Generator())
    twice = predictions(learner, params | {"log_scale": doubled["log_scale"].double()}, task)
    torch.testing.assert_close(twice, 2 * predictions(learner, params, task), rtol=1e-6, atol=0)


def test_a_scale_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="scale is 0"):
        ProtoNetHyper(scale=0.0)
