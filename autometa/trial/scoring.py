"""A trial's scores on tasks it isn't trained on, and what else is measured of it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autometa.engine import checkpoint as checkpoints
from autometa.engine.evaluate import Evaluation, meta_evaluate
from autometa.engine.latency import latency_ms
from autometa.engine.memory import adaptation_bytes
from autometa.engine.precision import set_precision
from autometa.episodes import stream
from autometa.learners.base import Learner, Params
from autometa.trial.spec import TrialSpec, build_learner, dataset, device, episode_shape, strategy

EVALUATION_BATCH_TASKS = 20
ADAPTATION = "adaptation"
MEMORY = "memory"
ECE = "ece"
ADAPTATION_TASKS = 11
VALIDATION = "validation"


@dataclass(frozen=True)
class Score:
    """Mean over tasks and half of its 95 % interval.

    ``loss`` is the queries' mean negative log-likelihood (nats) or squared error, ``ece`` the
    expected calibration error of a classification, ``scores`` those of the tasks, in their order.
    """

    mean: float
    ci95: float
    tasks: int
    loss: float
    ece: float | None
    scores: tuple[float, ...]


def score_checkpoint(spec: TrialSpec, checkpoint: Path, split: str, name: str, tasks: int) -> Score:
    """Score trained meta-parameters on tasks of a split; ``name`` names the stream of tasks."""
    set_precision(spec.precision)
    learner, _ = build_learner(spec)
    params = {k: v.to(device()) for k, v in load_params(checkpoint).items()}
    return score_tasks(spec, learner, params, split, name, tasks)


def load_params(checkpoint: Path) -> Params:
    """The meta-parameters in a trial's checkpoint, on the CPU."""
    params: Params = checkpoints.load(checkpoint)["train"]["params"]
    return params


def validate(spec: TrialSpec, learner: Learner[Any], params: Params, iteration: int) -> Score:
    """The score on the first validation tasks; on more of them where it is close to a rival's."""
    score = score_tasks(spec, learner, params, VALIDATION, VALIDATION, spec.validation_tasks)
    rival = dict(spec.rivals).get(iteration)
    if rival is None or spec.most_tasks is None or abs(score.mean - rival) > score.ci95:
        return score
    return score_tasks(spec, learner, params, VALIDATION, VALIDATION, spec.most_tasks)


def score_tasks(
    spec: TrialSpec, learner: Learner[Any], params: Params, split: str, name: str, tasks: int
) -> Score:
    """The score on tasks of a split; ``name`` names the stream of tasks."""
    source = dataset(spec).source(split, episode_shape(spec.task))
    # Seed 0 whatever the trial's seed: everything that is compared is scored on the same tasks.
    found = meta_evaluate(
        learner,
        params,
        source=source,
        tasks=tasks,
        generator=stream(0, name),
        batch=EVALUATION_BATCH_TASKS,
        strategy=strategy(spec),
    )
    return score_of(found)


def score_of(found: Evaluation) -> Score:
    """An evaluation as plain numbers."""
    scores = tuple(found.scores.tolist())
    return Score(found.mean, found.ci95, len(scores), found.loss, found.ece, scores)


def measures(
    spec: TrialSpec, learner: Learner[Any], params: Params, score: Score, names: Collection[str]
) -> dict[str, float]:
    """Of what is named, that which can be measured: ``adaptation``, ``memory``, ``ece``."""
    found: dict[str, float] = {}
    if ECE in names and score.ece is not None:
        found[ECE] = score.ece
    if not {ADAPTATION, MEMORY} & set(names):
        return found
    source = dataset(spec).source(VALIDATION, episode_shape(spec.task))
    batch = source.sample(ADAPTATION_TASKS, stream(0, ADAPTATION))
    if ADAPTATION in names:
        found[ADAPTATION] = latency_ms(learner, params, batch)
    if MEMORY in names:
        found[MEMORY] = adaptation_bytes(learner, params, next(iter(batch.unbind())))
    return found
