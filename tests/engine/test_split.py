"""Memory that runs out: a batch in parts, or by steps done twice, has the gradient of the whole."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch

from autometa.engine import split
from autometa.engine.split import SparingGradient, SplitGradient
from autometa.engine.strategies import STRATEGIES, meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Learner
from autometa.learners.platipus import Platipus, PlatipusHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.testing.learners import random_moment
from autometa.testing.small import small_encoder, small_tasks


class Memory:
    """The real meta-gradient on a device that has room for so many tasks."""

    def __init__(self, room: int) -> None:
        self.room, self.sizes = room, list[int]()

    def __call__(self, *given: Any, batch: Task, **options: Any) -> Any:
        self.sizes.append(len(batch.query_y))
        if self.sizes[-1] > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return meta_gradient(*given, batch=batch, **options)


def scene() -> dict[str, Any]:
    """One whose gradient depends on each task's own noise."""
    learner = Platipus(small_encoder(CLASSIFICATION), PlatipusHyper())
    drawn = learner.init(3, torch.Generator().manual_seed(0))
    params = {name: value.double() for name, value in drawn.items()}
    batch = small_tasks(CLASSIFICATION, tasks=7)
    moment = random_moment(learner, params, batch)
    return {"learner": learner, "params": params, "batch": batch, "moment": moment}


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_parts_have_the_gradient_of_the_whole(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = scene()
    whole = meta_gradient(**given, strategy=strategy)
    memory = Memory(room=2)
    monkeypatch.setattr(split, "meta_gradient", memory)
    gradient = SplitGradient()
    torch.testing.assert_close(gradient(**given, strategy=strategy), whole)
    assert memory.sizes == [7, 4, 2, 2, 2, 1]
    memory.sizes.clear()
    torch.testing.assert_close(gradient(**given, strategy=strategy), whole)
    assert memory.sizes == [2, 2, 2, 1]  # it has learned


def test_a_batch_that_fits_is_left_whole_to_the_bit() -> None:
    given, gradient = scene(), SplitGradient()
    (whole, metrics), (found, seen) = (
        each(**given, strategy="loop") for each in (meta_gradient, gradient)
    )
    assert gradient.most is None
    assert all(torch.equal(found[name], value) for name, value in whole.items())
    assert all(torch.equal(seen[name], value) for name, value in metrics.items())


def test_a_task_that_does_not_fit_alone_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory(room=0)
    monkeypatch.setattr(split, "meta_gradient", memory)
    with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
        SplitGradient()(**scene(), strategy="loop")
    assert memory.sizes == [7, 4, 2, 1]


class Keeping(Memory):
    """One whose tasks take three times the room unless their steps are computed again."""

    def __call__(self, *given: Any, batch: Task, **options: Any) -> Any:
        tasks = len(batch.query_y)
        self.sizes.append(tasks)
        if tasks * (1 if getattr(given[0], "recompute", False) else 3) > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return meta_gradient(*given, batch=batch, **options)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_steps_are_computed_again_once_a_task_alone_is_too_much(
    strategy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = scene()
    whole = meta_gradient(**given, strategy=strategy)
    memory = Keeping(room=2)
    monkeypatch.setattr(split, "meta_gradient", memory)
    gradient = SparingGradient()
    torch.testing.assert_close(gradient(**given, strategy=strategy), whole)
    assert memory.sizes == [7, 4, 2, 1, 7, 4, 2, 2, 2, 1]
    memory.sizes.clear()
    torch.testing.assert_close(gradient(**given, strategy=strategy), whole)
    assert memory.sizes == [2, 2, 2, 1]  # it has learned


def test_batches_are_split_before_steps_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Keeping(room=6)
    monkeypatch.setattr(split, "meta_gradient", memory)
    gradient = SparingGradient()
    gradient(**scene(), strategy="loop")
    assert memory.sizes == [7, 4, 2, 2, 2, 1]
    assert not gradient.recompute


def test_what_does_not_fit_even_so_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Keeping(room=0)
    monkeypatch.setattr(split, "meta_gradient", memory)
    gradient = SparingGradient()
    for sizes in ([7, 4, 2, 1, 7, 4, 2, 1], [1]):
        memory.sizes.clear()
        with pytest.raises(torch.OutOfMemoryError, match="CUDA out of memory"):
            gradient(**scene(), strategy="loop")
        assert memory.sizes == sizes


def test_learners_without_steps_to_save_are_not_tried_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = scene()
    single = replace(given["learner"].hyper, inner_steps=1)
    learners: list[Learner[Any]] = [
        replace(given["learner"], hyper=single),
        ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper()),
    ]
    memory = Keeping(room=0)
    monkeypatch.setattr(split, "meta_gradient", memory)
    for learner in learners:
        memory.sizes.clear()
        with pytest.raises(torch.OutOfMemoryError):
            SparingGradient()(**given | {"learner": learner}, strategy="loop")
        assert memory.sizes == [7, 4, 2, 1]
