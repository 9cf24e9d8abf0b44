"""Relation networks against a forward pass and a loss in NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import expit, log_softmax
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, START, Params, under
from autometa.learners.relation import Relation, RelationHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestRelation(LearnerTestCase):
    learner = Relation
    hyper = RelationHyper(width=16)
    label_symmetric = True
    training_iterations = 60


class TestRelationByCrossEntropy(LearnerTestCase):
    learner = Relation
    hyper = RelationHyper(width=16, loss_type="cross_entropy")
    label_symmetric = True
    training_iterations = 60


def scene(*, shots: int = 3, **hyper: object) -> tuple[Relation, Params, Task]:
    learner = Relation(small_encoder(CLASSIFICATION), RelationHyper(**hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: Relation, params: Params, x: Tensor) -> np.ndarray:
    return learner.encoder(under("encoder", params), x).numpy()


def logits_by_hand(learner: Relation, params: Params, task: Task) -> np.ndarray:
    """Pair by pair: concatenate the class's sum and the query, and go through the layers."""
    support = embed(learner, params, task.support_x)
    layers = [
        (params[f"relation.{fc}.weight"].numpy(), params[f"relation.{fc}.bias"].numpy())
        for fc in ("fc1", "fc2", "fc3", "fc4")
    ]
    found = np.empty((len(task.query_y), 3))
    for q, query in enumerate(embed(learner, params, task.query_x)):
        for k in range(3):
            x = np.concatenate([support[task.support_y.numpy() == k].sum(0), query])
            for i, (weight, bias) in enumerate(layers):
                x = weight @ (x if i == 0 else np.maximum(x, 0)) + bias
            found[q, k] = x.item()
    return found


def test_a_class_is_the_sum_of_its_embedded_examples() -> None:
    learner, params, task = scene()
    y = torch.tensor([2, 0, 0, 0, 1, 1, 0, 2, 1])
    z = embed(learner, params, task.support_x)
    expected = np.stack([z[[1, 2, 3, 6]].sum(0), z[[4, 5, 8]].sum(0), z[[0, 7]].sum(0)])
    np.testing.assert_allclose(learner.adapt(params, task.support_x, y, 3), expected, rtol=1e-12)


def test_logits_are_those_of_a_forward_pass_of_each_pair() -> None:
    learner, params, task = scene()
    expected = logits_by_hand(learner, params, task)
    np.testing.assert_allclose(predictions(learner, params, task), expected, rtol=1e-9, atol=1e-12)


def test_the_objective_is_the_squared_error_of_the_scores() -> None:
    learner, params, task = scene()
    scores = expit(logits_by_hand(learner, params, task))
    errors = [
        (scores[q, k] - (1.0 if label == k else 0.0)) ** 2
        for q, label in enumerate(task.query_y.tolist())
        for k in range(3)
    ]
    loss, logits = learner.objective(params, task, START)
    np.testing.assert_allclose(loss, np.mean(errors), rtol=1e-9)
    np.testing.assert_array_equal(logits.argmax(1), scores.argmax(1))


def test_cross_entropy_is_of_the_logits_in_evaluation_and_when_asked_for() -> None:
    learner, params, task = scene()
    log = log_softmax(logits_by_hand(learner, params, task), axis=1)
    expected = -log[range(6), task.query_y.numpy()].mean()
    np.testing.assert_allclose(learner.query_loss(params, task)[0], expected, rtol=1e-9)
    asked = replace(learner, hyper=replace(learner.hyper, loss_type="cross_entropy"))
    np.testing.assert_allclose(asked.objective(params, task, START)[0], expected, rtol=1e-9)


def test_defaults_are_the_published_ones() -> None:
    hyper = RelationHyper()
    assert (hyper.width, hyper.hidden, hyper.loss_type) == (64, 8, "mse")
    assert (hyper.meta_lr, hyper.meta_batch) == (1e-3, 1)


@pytest.mark.parametrize("name", ["width", "hidden"])
def test_a_module_without_units_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        RelationHyper(**{name: 0})
