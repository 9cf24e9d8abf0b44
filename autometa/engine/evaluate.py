"""Meta-evaluation: the score on tasks never trained on, with its interval over tasks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autometa.engine.recording import Recorder
from autometa.engine.strategies import RECORDABLE, Results, task_scores
from autometa.episodes.task import Task, TaskSource
from autometa.learners.base import Learner, Params


@dataclass(frozen=True)
class Evaluation:
    """Scores of tasks: accuracies in [0, 1], or mean squared errors of a regression.

    Attributes:
        scores: One a task, [tasks], float64 on the CPU.
        loss: Mean over the tasks of the queries' loss: the negative log-likelihood of a
            classification, in nats.
        ece: Expected calibration error of a classification, in [0, 1].
    """

    scores: Tensor
    loss: float
    ece: float | None = None

    @property
    def mean(self) -> float:
        return float(self.scores.mean())

    @property
    def ci95(self) -> float:
        """Half the width of the 95 % interval over tasks, 1.96·s/√n; one task alone gives ∞."""
        tasks = len(self.scores)
        return 1.96 * float(self.scores.std()) / math.sqrt(tasks) if tasks > 1 else math.inf


def meta_evaluate(
    learner: Learner[Any],
    params: Params,
    *,
    source: TaskSource,
    tasks: int,
    generator: torch.Generator,
    batch: int,
    strategy: str,
) -> Evaluation:
    """Adapt to each of ``tasks`` tasks and score its queries, ``batch`` tasks at a time.

    Raises:
        ValueError: ``tasks`` or ``batch`` is below 1, or the strategy is unknown.
    """
    recorder, found = Recorder(), list[Results]()
    for drawn in batches(source, tasks, generator, batch):
        ways = drawn.ways

        def scores(params: Params, *tensors: Tensor, ways: int = ways) -> Results:
            drawn = Task.of(tensors, ways)
            return task_scores(learner, params, batch=drawn, strategy=strategy)

        key = (learner, strategy, ways) if strategy in RECORDABLE else None
        found.append(recorder(key, scores, params, *drawn.tensors))
    return evaluation(found)


def batches(
    source: TaskSource, tasks: int, generator: torch.Generator, batch: int
) -> Iterator[Task]:
    """``tasks`` tasks of a source, ``batch`` at a time.

    Raises:
        ValueError: ``tasks`` or ``batch`` is below 1.
    """
    if min(tasks, batch) < 1:
        raise ValueError(f"tasks is {tasks} and batch {batch}, but both must be at least 1")
    for start in range(0, tasks, batch):
        yield source.sample(min(batch, tasks - start), generator)


def evaluation(results: Sequence[Results]) -> Evaluation:
    """What :func:`~autometa.engine.strategies.task_scores` gave of batches, as one."""
    pooled = {
        name: torch.cat([result[name] for result in results]).double().cpu() for name in results[0]
    }
    ece = None
    if "correct" in pooled:
        ece = calibration_error(pooled["confidence"].flatten(), pooled["correct"].flatten())
    return Evaluation(pooled["score"], float(pooled["loss"].mean()), ece)


def calibration_error(confidence: Tensor, correct: Tensor, bins: int = 15) -> float:
    """Expected calibration error (Guo et al., ICML 2017, equation 3), with 15 equal bins as there.

    Args:
        confidence: Probability of the chosen class of each prediction, [n].
        correct: 1 where that class is right, else 0, [n].
    """
    index = (confidence * bins).ceil().long().clamp(1, bins) - 1
    gaps = torch.zeros(bins, dtype=torch.float64)
    gaps.index_add_(0, index, (correct - confidence).double())
    return float(gaps.abs().sum() / len(confidence))
