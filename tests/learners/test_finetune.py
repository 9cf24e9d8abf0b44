"""Baseline and Baseline++: pretraining and the new head, each written out by hand."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autometa.episodes import load, stream
from autometa.learners.base import CLASSIFICATION, START, Params
from autometa.learners.finetune import Finetune, FinetuneHyper
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import TRAIN_CLASSES, EasyClasses, small_encoder, small_tasks


class TestBaseline(LearnerTestCase):
    learner = Finetune
    hyper = FinetuneHyper(head="linear", head_steps=10)
    label_symmetric = True
    training_iterations = 60


class TestBaselinePlusPlus(LearnerTestCase):
    learner = Finetune
    hyper = FinetuneHyper(head="cosine", head_steps=10)
    label_symmetric = True
    training_iterations = 60


def scene(**hyper: object) -> tuple[Finetune, Params]:
    record = FinetuneHyper(**hyper)  # type: ignore[arg-type]
    learner = Finetune(small_encoder(CLASSIFICATION), record, train_classes=TRAIN_CLASSES)
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {name: value.double() for name, value in params.items()}


def embed(learner: Finetune, params: Params, x: Tensor) -> Tensor:
    weights = {n.removeprefix("encoder."): v for n, v in params.items() if n.startswith("encoder.")}
    return learner.encoder(weights, x)


def test_pretraining_is_cross_entropy_over_all_base_classes() -> None:
    learner, params = scene(head="linear")
    batch = next(EasyClasses().sample(1, torch.Generator().manual_seed(0)).unbind())
    batch = replace(batch, query_x=batch.query_x.double())
    z = embed(learner, params, batch.query_x).numpy()
    logits = z @ params["head.weight"].numpy().T + params["head.bias"].numpy()
    logs = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    expected = -logs[np.arange(len(logs)), batch.query_y.numpy()].mean()
    loss, prediction = learner.objective(params, batch, START)
    np.testing.assert_allclose(float(loss), expected)
    assert prediction.shape == (len(z), TRAIN_CLASSES)


@torch.no_grad()
def test_the_linear_head_is_softmax_regression_on_frozen_features() -> None:
    """The gradient of softmax regression has the closed form (p − y)ᵀ z / n."""
    learner, params = scene(head="linear", head_steps=7, head_lr=0.3)
    task = next(small_tasks(CLASSIFICATION, shots=3).unbind())
    z = embed(learner, params, task.support_x).numpy()
    y = np.eye(3)[task.support_y.numpy()]
    weight, bias = np.zeros((3, z.shape[1])), np.zeros(3)
    for _ in range(7):
        p = np.exp(z @ weight.T + bias)
        error = (p / p.sum(1, keepdims=True) - y) / len(z)
        weight, bias = weight - 0.3 * error.T @ z, bias - 0.3 * error.sum(0)
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    np.testing.assert_allclose(fast["weight"], weight, atol=1e-12)
    np.testing.assert_allclose(fast["bias"], bias, atol=1e-12)


def test_the_cosine_head_starts_at_the_class_means_and_descends() -> None:
    learner, params = scene(head="cosine", head_steps=4, head_lr=0.2, scale=5.0)
    task = next(small_tasks(CLASSIFICATION, shots=3).unbind())
    z = F.normalize(embed(learner, params, task.support_x), dim=1)
    weight = torch.stack([z[task.support_y == k].mean(0) for k in range(3)])
    for _ in range(4):
        leaf = weight.clone().requires_grad_()
        logits = 5.0 * z @ (leaf / leaf.norm(dim=1, keepdim=True)).T
        loss = F.cross_entropy(logits, task.support_y)
        weight = weight - 0.2 * torch.autograd.grad(loss, leaf)[0]
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    torch.testing.assert_close(fast["weight"], weight)


def test_more_steps_only_move_the_head() -> None:
    learner, params = scene(head="cosine", head_steps=0)
    task = next(small_tasks(CLASSIFICATION).unbind())
    assert learner.adapt(params, task.support_x, task.support_y, 3).keys() == {"weight"}


@pytest.mark.parametrize("augment", ["none", "affine"])
def test_batches_are_of_all_classes_with_their_own_labels(augment: str) -> None:
    data = load("glyphs")
    batch = data.batches(400, augment=augment).sample(2, stream(0, "x"))
    assert batch.support_x.shape[:2] == (2, 0)
    assert batch.query_x.shape == (2, 400, *data.input_shape)
    assert batch.ways == data.train_classes
    assert batch.query_y.unique().numel() > 0.7 * data.train_classes
    again = data.batches(400, augment=augment).sample(2, stream(0, "x"))
    assert torch.equal(again.query_x, batch.query_x)
    if augment == "none":
        part = data.splits["train"]
        images, labels = part.images[part.rows], part.labels
        shown = batch.query_x[0, 0].mul(255).round().byte()
        same = (images == shown).flatten(1).all(1)
        assert batch.query_y[0, 0] in labels[same]
