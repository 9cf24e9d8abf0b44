"""What is replayed on a GPU gives what the CPU gives; elsewhere functions are simply called."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

from autometa.engine import recording
from autometa.engine.recording import BEFORE_RECORDING, KEPT, Recorder, Recording
from autometa.engine.split import SplitGradient
from autometa.engine.strategies import ON_GPU, meta_gradient
from autometa.episodes.task import Task
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSES, CLASSIFICATION, Moment
from autometa.testing.learners import random_moment
from autometa.testing.small import TRAIN_CLASSES, WAYS, small_encoder, small_tasks

gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
EPISODIC = [name for name in LEARNERS if LEARNERS.load(name).trains_on != CLASSES]


class Counted:
    """Doubles, and counts how often it is called."""

    calls = 0

    def __call__(self, x: Tensor) -> Tensor:
        self.calls += 1
        return 2 * x


@dataclass(frozen=True)
class Again:
    """Stands for a CUDA graph: computes from its inputs, wherever these come from, in place."""

    function: Callable[..., Any]
    given: Any
    outputs: list[Tensor]

    def replay(self) -> None:
        torch._foreach_copy_(self.outputs, tree_flatten(self.function(*self.given))[0])


def recorded(function: Callable[..., Any], given: Any) -> Recording:
    """As on a GPU, where what is given while a graph is recorded is never computed with."""
    inputs = tree_map(lambda each: torch.full_like(each, torch.nan), given)
    outputs, structure = tree_flatten(function(*inputs))
    return Recording(Again(function, inputs, outputs), tree_flatten(inputs)[0], outputs, structure)


@pytest.fixture
def on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recording, "_recordable", lambda tensors: True)
    monkeypatch.setattr(recording, "_recording", recorded)


@pytest.mark.usefixtures("on_a_gpu")
def test_results_are_the_callers_to_keep() -> None:
    def function(numbers: dict[str, Tensor], shift: Tensor) -> Any:
        return {"doubled": 2 * numbers["x"]}, (numbers["x"], shift.sum())

    recorder, given = Recorder(), [float(i) for i in range(BEFORE_RECORDING + 4)]
    found = [recorder("f", function, {"x": torch.tensor([x])}, torch.ones(3)) for x in given]
    for x, (numbers, (same, total)) in zip(given, found, strict=True):
        assert (numbers["doubled"].item(), same.item(), total.item()) == (2 * x, x, 3.0)
    found[-2][1][0].add_(1.0)  # as gradients are clipped
    assert found[-1][1][0].item() == given[-1]


@pytest.mark.usefixtures("on_a_gpu")
def test_what_equals_is_recorded_once_and_what_differs_apart() -> None:
    cls, x = LEARNERS.load("maml"), torch.ones(1)
    learner = cls(small_encoder(CLASSIFICATION), cls.hyper_type(), CLASSIFICATION, TRAIN_CLASSES)
    other = replace(learner, hyper=replace(learner.hyper, meta_batch=8))
    recorder = Recorder()
    for count, key in ((2, learner), (3, other)):
        for _ in range(BEFORE_RECORDING + 1):
            equal = (replace(key), "vmap")
            assert recorder(equal, lambda x, by=count: by * x, x).item() == count
    unused = Counted()
    assert recorder((learner, "vmap"), unused, x).item() == 2
    assert recorder((other, "vmap"), unused, x).item() == 3
    assert unused.calls == 0
    recorder((other, "loop"), unused, x)
    recorder((other, "vmap"), unused, torch.ones(2))
    assert unused.calls == 2


def test_on_a_cpu_a_function_is_called_every_time() -> None:
    recorder, double = Recorder(), Counted()
    for i in range(6):
        assert recorder("double", double, torch.tensor(float(i))) == 2 * i
    assert double.calls == 6


@gpu
def test_on_a_gpu_it_is_recorded_and_then_replayed_on_what_it_is_given() -> None:
    recorder, double = Recorder(), Counted()
    for i in range(6):
        assert float(recorder("double", double, torch.tensor([float(i)]).cuda())) == 2 * i
    assert double.calls == BEFORE_RECORDING + 1


@gpu
def test_other_shapes_and_keys_are_recorded_apart_and_the_oldest_is_forgotten() -> None:
    recorder, double = Recorder(), Counted()
    for size in range(1, KEPT + 2):
        for _ in range(BEFORE_RECORDING + 2):
            assert recorder("double", double, torch.ones(size).cuda()).tolist() == [2.0] * size
    calls = double.calls
    recorder("double", double, torch.ones(KEPT + 1).cuda())
    assert double.calls == calls
    recorder("double", double, torch.ones(1).cuda())
    assert double.calls == calls + 1


@gpu
def test_what_waits_for_the_gpu_is_called_as_ever() -> None:
    recorder, calls = Recorder(), []

    def waits(x: Tensor) -> Tensor:
        calls.append(float(x))
        return x + calls[-1]

    found = [float(recorder("waits", waits, torch.tensor(float(i)).cuda())) for i in range(5)]
    assert found == [0.0, 2.0, 4.0, 6.0, 8.0]


@gpu
@pytest.mark.parametrize("strategy", ON_GPU)
@pytest.mark.parametrize("name", EPISODIC)
def test_every_learners_replay_is_what_a_loop_on_the_cpu_gives(name: str, strategy: str) -> None:
    cls = LEARNERS.load(name)
    if CLASSIFICATION not in cls.problems:
        pytest.skip("doesn't classify")
    learner = cls(small_encoder(CLASSIFICATION), cls.hyper_type(), CLASSIFICATION, TRAIN_CLASSES)
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    gradient, batch = SplitGradient(), small_tasks(CLASSIFICATION, tasks=3)
    for scale in (1.0, 1.01, 0.99, 1.02, 0.98):
        params = {key: scale * value.double() for key, value in drawn.items()}
        moment = random_moment(learner, params, batch)
        expected = meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)
        there = {key: value.cuda() for key, value in params.items()}
        tasks = Task.of([each.cuda() for each in batch.tensors], batch.ways)
        now = Moment(moment.progress, moment.noise.cuda())
        grads, metrics = gradient(learner, there, batch=tasks, strategy=strategy, moment=now)
        for key, value in expected[0].items():
            torch.testing.assert_close(grads[key].cpu(), value, rtol=1e-7, atol=1e-9)
        torch.testing.assert_close(metrics["loss"].cpu(), expected[1]["loss"])
