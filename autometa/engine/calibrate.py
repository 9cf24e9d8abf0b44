"""Which way to run a batch of tasks is fastest here, by measurement."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from autometa.engine.recording import BEFORE_RECORDING
from autometa.engine.split import SplitGradient
from autometa.engine.strategies import ON_CPU, ON_GPU
from autometa.episodes.task import Task
from autometa.learners.base import Learner, Moment, Params

ROUNDS = 2


def fastest(
    learner: Learner[Any],
    params: Params,
    *,
    batch: Task,
    moment: Moment,
    strategies: Iterable[str] | None = None,
) -> str:
    """The strategy whose meta-gradient of the batch takes least, each tried in turn.

    Those that make sense on the device, unless others are named. One that needs more memory than
    there is for the whole batch isn't chosen.

    Raises:
        torch.OutOfMemoryError: None of them has enough.
    """
    took: dict[str, float] = {}
    refused: torch.OutOfMemoryError | None = None
    for strategy in strategies or (ON_GPU if batch.query_x.is_cuda else ON_CPU):
        try:
            took[strategy] = _seconds(learner, params, batch, strategy, moment)
        except torch.OutOfMemoryError as error:
            refused = error.with_traceback(None)  # which holds what the attempt made
    if not took:
        assert refused is not None
        raise refused
    return min(took, key=lambda strategy: took[strategy])


def _seconds(
    learner: Learner[Any], params: Params, batch: Task, strategy: str, moment: Moment
) -> float:
    """The shortest of some, after those that aren't timed: a recording on a GPU has to be made."""
    gradient, untimed = SplitGradient(), 1 + BEFORE_RECORDING if batch.query_x.is_cuda else 1
    found: list[float] = []
    for _ in range(untimed + ROUNDS):
        start = time.perf_counter()
        _, metrics = gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
        float(metrics["loss"])  # waits for an accelerator
        found.append(time.perf_counter() - start)
        if gradient.most is not None:
            raise torch.OutOfMemoryError("the batch has to be split")
    return min(found[untimed:])
