"""Latency: a median over tasks, the first of which isn't counted."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import torch

from autometa.engine.latency import latency_ms
from autometa.learners.base import CLASSIFICATION
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.testing.small import small_encoder, small_tasks


def clock(seconds: list[float]) -> Iterator[float]:
    """A time before and after each task, which takes these seconds."""
    now = 100.0
    for each in seconds:
        yield now
        now += each
        yield now
        now += 1000.0


def test_it_is_the_median_without_the_first(monkeypatch: pytest.MonkeyPatch) -> None:
    learner = ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(), CLASSIFICATION)
    params = {k: v.double() for k, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    batch = small_tasks(CLASSIFICATION, tasks=5)
    times = clock([9.0, 0.004, 0.001, 0.002, 0.9])
    monkeypatch.setattr(time, "perf_counter", lambda: next(times))
    assert latency_ms(learner, params, batch) == pytest.approx(3.0)


def test_a_single_task_is_refused() -> None:
    learner = ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(), CLASSIFICATION)
    params = {k: v.double() for k, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    with pytest.raises(ValueError, match="give 2 or more"):
        latency_ms(learner, params, small_tasks(CLASSIFICATION, tasks=1))
