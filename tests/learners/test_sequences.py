"""The sequences that MANN and SNAIL are trained on."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION
from autometa.learners.sequences import SequenceHyper, deal
from autometa.testing.small import small_tasks

SEQUENCES = 200


def dealt() -> tuple[Task, Tensor, Tensor]:
    task = next(small_tasks(CLASSIFICATION, shots=2).unbind())
    images = len(task.support_y) + len(task.query_y)
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(SEQUENCES * (images + task.ways), generator=generator, dtype=torch.float64)
    return task, *deal(task, noise, SEQUENCES)


def test_every_sequence_has_every_image_once_and_the_shots_of_each_class_first() -> None:
    task, order, labels = dealt()
    shots = len(task.support_y)
    for places, y in zip(order, labels, strict=True):
        assert sorted(places.tolist()) == list(range(order.shape[1]))
        assert y[:shots].bincount().tolist() == [2, 2, 2]


def test_the_first_is_the_task_itself_in_another_order() -> None:
    task, order, labels = dealt()
    shots = len(task.support_y)
    assert sorted(order[0, :shots].tolist()) == list(range(shots)) != order[0, :shots].tolist()
    assert order[0, shots:].tolist() == list(range(shots, order.shape[1]))
    assert torch.equal(labels[0], torch.cat([task.support_y, task.query_y])[order[0]])


def test_the_others_rename_the_classes() -> None:
    task, order, labels = dealt()
    y = torch.cat([task.support_y, task.query_y])
    names = set()
    for places, found in zip(order[1:], labels[1:], strict=True):
        pairs = dict(zip(y[places].tolist(), found.tolist(), strict=True))
        assert [pairs[old] for old in y[places].tolist()] == found.tolist()
        names.add(tuple(pairs[old] for old in range(task.ways)))
    assert len(names) == 6  # Every permutation of three.


def test_every_image_comes_to_every_place() -> None:
    task, order, _ = dealt()
    shots, images = len(task.support_y), order.shape[1]
    in_support = (order[1:, :shots, None] == torch.arange(images)).any(1).float().mean(0)
    share = shots / images
    assert (in_support - share).abs().max() < 5 * (share * (1 - share) / SEQUENCES) ** 0.5
    first = order[1:, 0].bincount(minlength=images)
    assert first.min() > 0


def test_no_sequences_are_refused() -> None:
    with pytest.raises(ValueError, match="sequences is 0, but must be at least 1"):
        SequenceHyper(sequences=0)
