"""What a learner answers to the queries of tasks, and how sure it is of that."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from autometa.engine.evaluate import batches, calibration_error
from autometa.engine.strategies import PerTask, over_tasks
from autometa.episodes.task import Task, TaskSource
from autometa.learners.base import CLASSIFICATION, Learner, Params

DIGITS = 6
"""Of a confidence: a file of many queries stays small."""


@dataclass(frozen=True)
class Exam:
    """Tasks that can be drawn again and again, always the same ones.

    Attributes:
        begin: Gives the generator of the tasks, as it is before the first of them.
        batch: Tasks at a time.
        strategy: One of the engine's.
    """

    source: TaskSource
    tasks: int
    begin: Callable[[], torch.Generator]
    batch: int
    strategy: str

    def drawn(self) -> Iterator[Task]:
        """The tasks, in batches."""
        return batches(self.source, self.tasks, self.begin(), self.batch)


@dataclass(frozen=True)
class Answers:
    """Of all tasks, on the CPU.

    Attributes:
        scores: Accuracies or squared errors, float64 [T].
        losses: Mean loss of the queries, float64 [T].
        predictions: Classes [T, Q], or the outputs of a regression [T, Q, D].
        confidence: Probability of the predicted class, float64 [T, Q]; a regression has none.
        correct: 1 where that class is right, else 0, float64 [T, Q]; a regression has none.
    """

    scores: Tensor
    losses: Tensor
    predictions: Tensor
    confidence: Tensor | None = None
    correct: Tensor | None = None


def answers(learner: Learner[Any], params: Params, exam: Exam) -> Answers:
    """Adapt to every task and answer its queries."""

    def one(learner: Learner[Any], task: Task, _: Tensor) -> tuple[dict[str, Tensor], ...]:
        with torch.no_grad():
            loss, output = learner.query_loss(params, task)
            found = {"score": learner.score(output, task.query_y), "loss": loss, "output": output}
            if learner.problem == CLASSIFICATION:
                found["confidence"], found["output"] = output.softmax(-1).max(-1)
                found["correct"] = (found["output"] == task.query_y).double()
            return (found,)

    found = gathered(one, learner, exam)
    known = {name: found[name].double() for name in ("confidence", "correct") if name in found}
    return Answers(found["score"].double(), found["loss"].double(), found["output"], **known)


def gathered(function: PerTask, learner: Learner[Any], exam: Exam) -> dict[str, Tensor]:
    """What a function gives of every task of an exam, stacked along T, on the CPU."""
    parts = []
    for batch in exam.drawn():
        silence = batch.query_x.new_empty(len(batch.query_y), 0)
        (part,) = over_tasks(function, learner, batch, exam.strategy, silence)
        parts.append(part)
    return {name: torch.cat([part[name] for part in parts]).cpu() for name in parts[0]}


def calibration(found: Answers) -> dict[str, Any] | None:
    """``confidence`` and ``correct`` of each query, a list a task; ``ece`` of them all."""
    if found.confidence is None or found.correct is None:
        return None
    return {
        "ece": calibration_error(found.confidence.flatten(), found.correct.flatten()),
        "confidence": [[round(p, DIGITS) for p in task] for task in found.confidence.tolist()],
        "correct": found.correct.long().tolist(),
    }
