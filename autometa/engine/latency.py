"""How long a learner takes to adapt to a task and to answer its queries, one task at a time."""

from __future__ import annotations

import statistics
import time
from typing import Any

import torch

from autometa.episodes.task import Task
from autometa.learners.base import Learner, Params


def latency_ms(learner: Learner[Any], params: Params, batch: Task) -> float:
    """Median over the tasks of a batch, in milliseconds; the first one warms up and isn't counted.

    It is what a user waits for, not throughput: no tasks are batched. Whatever else runs on the
    machine is in it.

    Raises:
        ValueError: There is a single task.
    """
    times = [_one_ms(learner, params, task) for task in batch.unbind()]
    if len(times) < 2:
        raise ValueError("tasks is 1, but one must warm up and one be timed: give 2 or more")
    return statistics.median(times[1:])


def _one_ms(learner: Learner[Any], params: Params, task: Task) -> float:
    _wait(task)
    start = time.perf_counter()
    with torch.no_grad():
        learner.query_loss(params, task)
    _wait(task)
    return 1000 * (time.perf_counter() - start)


def _wait(task: Task) -> None:
    """A GPU works on after a call has returned."""
    if task.query_x.is_cuda:
        torch.cuda.synchronize(task.query_x.device)
