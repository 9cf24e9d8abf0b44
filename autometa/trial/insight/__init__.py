"""A closer look at trained meta-parameters: which tasks are hard, what is sure, what steps bring.

Everything is on tasks of one stream of a split; nothing is chosen by it. The outcome is plain
values, as ``insight.json`` keeps them.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autometa.engine.precision import set_precision
from autometa.episodes import stream
from autometa.trial.insight.answers import Answers, Exam, answers, calibration
from autometa.trial.insight.episodes import episodes
from autometa.trial.insight.rates import rates
from autometa.trial.insight.steps import course
from autometa.trial.scoring import EVALUATION_BATCH_TASKS, load_params
from autometa.trial.spec import TrialSpec, build_learner, dataset, device, episode_shape, strategy

__all__ = ["Answers", "Exam", "View", "answers", "calibration", "course", "episodes", "insight"]


@dataclass(frozen=True)
class View:
    """Which tasks are looked at: the first ones of a stream of a split."""

    split: str
    stream: str
    tasks: int


def insight(spec: TrialSpec, checkpoint: Path, view: View) -> dict[str, Any]:
    """What is known of a checkpoint beyond its score.

    ``scores`` of the tasks; ``calibration`` (see :func:`calibration`), ``steps`` (:func:`course`)
    and ``rates`` (:func:`rates`), None where the method or the problem has none; ``episodes``
    (:func:`episodes`), the hardest and the easiest.
    """
    set_precision(spec.precision)
    learner, _ = build_learner(spec)
    params = {name: value.to(device()) for name, value in load_params(checkpoint).items()}
    source = dataset(spec).source(view.split, episode_shape(spec.task))
    # Seed 0, and batches of the same size as in scoring: these are the tasks that scored it.
    exam = Exam(
        source, view.tasks, lambda: stream(0, view.stream), EVALUATION_BATCH_TASKS, strategy(spec)
    )
    found = answers(learner, params, exam)
    return {
        "problem": learner.problem,
        "scores": found.scores.tolist(),
        "calibration": calibration(found),
        "steps": course(learner, params, exam),
        "rates": rates(learner, params),
        "episodes": episodes(found, exam, learner.problem),
    }
