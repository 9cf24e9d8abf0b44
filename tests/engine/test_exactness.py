"""Meta-gradients through our own normalisation: every strategy against finite differences."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

import pytest
import torch
from torch import nn

from autometa.backbones.block import ConvBlock
from autometa.backbones.layers import BatchNorm, GroupNorm
from autometa.engine.strategies import ON_CPU, meta_gradient
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSES, CLASSIFICATION, Encoder, Learner
from autometa.testing.learners import finite_difference, random_direction, random_moment
from autometa.testing.small import IMAGE, TRAIN_CLASSES, WAYS, small_tasks

NORMS = {"batch": BatchNorm, "group": GroupNorm}
# Their meta-gradient isn't the derivative of their objective, or nothing of theirs is learned.
INEXACT = {"fomaml", "reptile", "imaml", "meta_lstm", "bmaml", "nearest", "scratch"}
OPTIONS: dict[str, dict[str, Any]] = {"mamlpp": {"order_annealing": False}}
EXACT = [
    name
    for name in LEARNERS
    if name not in INEXACT and LEARNERS.load(name).trains_on != CLASSES
    if CLASSIFICATION in LEARNERS.load(name).problems
]


def encoder(norm: str) -> Encoder:
    """Two blocks of ours; tanh and mean pooling have no kinks that a difference could cross."""
    with torch.device("meta"):
        blocks = OrderedDict[str, nn.Module]()
        for i, before in enumerate((1, 8), start=1):
            conv = nn.Conv2d(before, 8, 3, padding=1)
            blocks[f"conv{i}"] = ConvBlock(conv, NORMS[norm](8), nn.Tanh(), nn.AvgPool2d(2))
        blocks["flatten"] = nn.Flatten()
        return Encoder(nn.Sequential(blocks), 8 * (IMAGE[1] // 4) ** 2)


@pytest.mark.parametrize("strategy", ON_CPU)
@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("name", EXACT)
def test_the_meta_gradient_is_the_slope(name: str, norm: str, strategy: str) -> None:
    cls = LEARNERS.load(name)
    hyper = cls.hyper_type(**OPTIONS.get(name, {}))
    learner: Learner[Any] = cls(encoder(norm), hyper, CLASSIFICATION, TRAIN_CLASSES)
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {key: value.double() for key, value in drawn.items()}
    batch = small_tasks(CLASSIFICATION, tasks=2)
    moment = random_moment(learner, params, batch)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if strategy == "threads" else 1)
    try:
        grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
    finally:
        torch.set_num_threads(threads)
    direction = random_direction(grads, 1)
    slope = sum((grads[key] * step).sum() for key, step in direction.items())
    # A step that crosses a kink, as of a ReLU, tells nothing: the best of several.
    numeric = [
        finite_difference(learner, params, batch, moment, direction, step)
        for step in (1e-6, 1e-7, 1e-8)
    ]
    assert min(abs(float((slope / each).detach()) - 1) for each in numeric) < 1e-4
