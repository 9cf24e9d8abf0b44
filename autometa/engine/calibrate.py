"""Which way to run a batch of tasks is fastest here, by measurement."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

import torch

from autometa.engine.strategies import STRATEGIES, meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import Learner, Moment, Params

ROUNDS = 2


def fastest(
    learner: Learner[Any],
    params: Params,
    *,
    batch: Task,
    moment: Moment | None = None,
    strategies: Iterable[str] = STRATEGIES,
) -> str:
    """The strategy whose meta-gradient of the batch takes least, each tried in turn.

    One that needs more memory than there is isn't chosen.

    Raises:
        torch.OutOfMemoryError: None of them has enough.
    """
    took: dict[str, float] = {}
    refused: torch.OutOfMemoryError | None = None
    for strategy in strategies:
        try:
            took[strategy] = _seconds(learner, params, batch, strategy, moment)
        except torch.OutOfMemoryError as error:
            refused = error.with_traceback(None)  # which holds what the attempt made
    if not took:
        assert refused is not None
        raise refused
    return min(took, key=lambda strategy: took[strategy])


def _seconds(
    learner: Learner[Any], params: Params, batch: Task, strategy: str, moment: Moment | None
) -> float:
    """The shortest of some, after one that isn't timed."""
    found: list[float] = []
    for _ in range(1 + ROUNDS):
        start = time.perf_counter()
        _, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
        float(metrics["loss"])  # waits for an accelerator
        found.append(time.perf_counter() - start)
    return min(found[1:])
