"""What each step on a support set brings: the score after none, one, … and more than it was set to.

A learner is taken as it is, with another number of steps; the tasks are always the same.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autometa.engine.evaluate import Evaluation
from autometa.episodes.task import Task
from autometa.learners.base import Learner, Params
from autometa.learners.inner_loop import INNER_LR, GradientLearner, RatedLearner, weights_of
from autometa.trial.insight.answers import Exam, gathered

BEYOND = 5
"""Steps more than it was set to."""
MOST_POINTS = 21
"""Numbers of steps that are tried; of more than so many, some between are left out."""
MOST_STEPS = 5_000
"""Of all tasks and points together, as long as there are :data:`FEWEST_TASKS`."""
FEWEST_TASKS = 20
FIELDS = ("evaluation_steps", "inner_steps")
"""Where a learner's number of steps on a new task is set: in the first of these that it has."""


def course(learner: Learner[Any], params: Params, exam: Exam) -> dict[str, Any] | None:
    """The score after 0, 1, …, K + 5 steps, K being what the learner takes of a new task.

    ``own`` is K, ``tasks`` how many scored each of ``points``, which have ``steps``, ``mean`` and
    ``ci95`` (half of the 95 % interval over tasks; both None where they are no finite numbers).
    None where the learner takes no gradient steps, or they can't be set.
    """
    own = own_steps(learner)
    if own is None:
        return None
    tried = points(own)
    exam = replace(exam, tasks=affordable(tried, exam.tasks))
    told = [(steps, scores_after(steps, learner, params, exam)) for steps in tried]
    found = [{"steps": steps, **_estimate(scores)} for steps, scores in told]
    return {"own": own, "tasks": exam.tasks, "points": found}


def own_steps(learner: Learner[Any]) -> int | None:
    """How many gradient steps a learner takes on a new task; None where that is no field of it."""
    field = _field(learner)
    if not isinstance(learner, GradientLearner) or field is None:
        return None
    return int(getattr(learner.hyper, "adaptation_steps", getattr(learner.hyper, field)))


def _field(learner: Learner[Any]) -> str | None:
    return next((name for name in FIELDS if hasattr(learner.hyper, name)), None)


def points(own: int) -> list[int]:
    """0, 1, …, own + 5; where these are too many, about evenly spaced ones, and ``own``."""
    last = own + BEYOND
    if last < MOST_POINTS:
        return list(range(last + 1))
    spaced = {round(i * last / (MOST_POINTS - 2)) for i in range(MOST_POINTS - 1)}
    return sorted(spaced | {own})


def affordable(tried: Sequence[int], tasks: int) -> int:
    """So many tasks at most that all steps stay within :data:`MOST_STEPS`, in whole twenties."""
    most = MOST_STEPS // sum(tried) // FEWEST_TASKS * FEWEST_TASKS
    return min(tasks, max(most, FEWEST_TASKS))


def scores_after(steps: int, learner: Learner[Any], params: Params, exam: Exam) -> Tensor:
    """The score of each task after so many steps, float64 [T]."""
    field = _field(learner)
    assert field is not None
    learner = replace(learner, hyper=replace(learner.hyper, **{field: max(steps, 1)}))
    still = steps == 0
    if still and isinstance(learner, RatedLearner):  # a step of no length, which the hyper allows
        params, still = params | {INNER_LR: torch.zeros_like(params[INNER_LR])}, False

    def one(learner: Learner[Any], task: Task, _: Tensor) -> tuple[dict[str, Tensor], ...]:
        with torch.no_grad():
            fast = (
                weights_of(params)
                if still
                else learner.adapt(params, task.support_x, task.support_y, task.ways)
            )
            output = learner.predict(params, fast, task.query_x)
            return ({"score": learner.score(output, task.query_y)},)

    return gathered(one, learner, exam)["score"].double()


def _estimate(scores: Tensor) -> dict[str, float | None]:
    found = Evaluation(scores, math.nan)
    known = {"mean": found.mean, "ci95": found.ci95}
    return {name: value if math.isfinite(value) else None for name, value in known.items()}
