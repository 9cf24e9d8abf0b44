"""One trial: where learner, backbone and episodes meet. Knows neither Ray nor Optuna.

A :class:`TrialSpec` is names and numbers only. :func:`run_trial` yields a report at every scoring
and keeps a checkpoint, so that a killed trial goes on where it was, to the bit.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch

from autometa import episodes
from autometa.backbones import BACKBONES
from autometa.backbones.base import Backbone
from autometa.engine import checkpoint as checkpoints
from autometa.engine.evaluate import meta_evaluate
from autometa.engine.latency import latency_ms
from autometa.engine.strategies import choose
from autometa.engine.train import Diverged, TrainState, meta_train
from autometa.episodes import Dataset, EpisodeShape, stream
from autometa.episodes.task import TaskSource
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSES, Encoder, Hyper, Learner, Params
from autometa.learners.hyper_json import from_json

COMPLETE = "complete"
DIVERGED = "diverged"
EVALUATION_BATCH_TASKS = 20
ADAPTATION = "adaptation"
ECE = "ece"
ADAPTATION_TASKS = 11


@dataclass(frozen=True)
class TrialSpec:
    """What a trial trains, on what, for how long.

    Attributes:
        task: ``ways``, ``shots``, ``queries``, ``within_groups``, ``train_within_groups``.
        seed: Of initialization and meta-training tasks. Validation tasks are the same for all.
        iterations: Meta-iterations of the full budget.
        validate_every: Meta-iterations between two reports.
        initial: A checkpoint whose ``params`` the encoder starts from, if they are its parameters.
    """

    learner: str
    hyper: Mapping[str, Any]
    backbone: str
    architecture: Mapping[str, Any]
    data: str
    data_options: Mapping[str, Any]
    task: Mapping[str, Any]
    seed: int
    iterations: int
    validate_every: int
    validation_tasks: int
    initial: str | None = None

    def to_json(self) -> dict[str, Any]:
        values = asdict(self)
        if self.initial is None:
            del values["initial"]
        return values

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialSpec:
        return cls(**values)

    @property
    def ways(self) -> int:
        return int(self.task["ways"])


@dataclass(frozen=True)
class TrialReport:
    """A trial at one of its scorings.

    Attributes:
        score: Mean over meta-validation tasks; NaN when the trial diverged.
        ci95: Half of the 95 % interval, over tasks.
        seconds: Training and scoring so far, earlier processes included.
        end: None while it goes on, else ``complete`` or ``diverged``, with its ``reason``.
        measures: Of a complete trial, what else was to be measured: ``adaptation``, milliseconds
            to adapt to a meta-validation task and answer its queries, and ``ece``.
    """

    iteration: int
    score: float
    ci95: float
    seconds: float
    end: str | None = None
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


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


def run_trial(
    spec: TrialSpec, checkpoint: Path, measure: Collection[str] = ()
) -> Iterator[TrialReport]:
    """Train and score, from the checkpoint if there is one; it is renewed at every report.

    ``measure`` names what else than the score to measure at the end.
    """
    learner, _ = build_learner(spec)
    saved = checkpoints.load(checkpoint) if checkpoint.exists() else None
    state = _start(spec, learner) if saved is None else _restored(learner, saved)
    report = None if saved is None else TrialReport(**json.loads(saved["report"]))
    if report is not None:
        yield report
        if report.end is not None:
            return
    seconds = report.seconds if report else 0.0
    while state.iteration < spec.iterations:
        start = time.perf_counter()
        report = _advance(spec, learner, state, seconds, start, measure)
        saved = {"train": state.state_dict(), "report": json.dumps(asdict(report))}
        checkpoints.save(checkpoint, saved)
        yield report
        if report.end is not None:
            return
        seconds = report.seconds


def train_to_end(spec: TrialSpec, checkpoint: Path) -> float:
    """Train without stopping in between; seconds spent.

    Raises:
        Diverged: It did.
    """
    report = None
    for report in run_trial(spec, checkpoint):
        if report.end == DIVERGED:
            raise Diverged(report.iteration, report.reason)
    assert report is not None
    return report.seconds


def score_checkpoint(spec: TrialSpec, checkpoint: Path, split: str, name: str, tasks: int) -> Score:
    """Score trained meta-parameters on tasks of a split; ``name`` names the stream of tasks."""
    learner, _ = build_learner(spec)
    params = {k: v.to(device()) for k, v in load_params(checkpoint).items()}
    return _score(spec, learner, params, split, name, tasks)


def load_params(checkpoint: Path) -> Params:
    """The meta-parameters in a trial's checkpoint, on the CPU."""
    params: Params = checkpoints.load(checkpoint)["train"]["params"]
    return params


def build_learner(spec: TrialSpec) -> tuple[Learner[Any], tuple[int, ...]]:
    """The learner of a spec around its frozen backbone, and the shape of its inputs."""
    data = dataset(spec)
    backbone: Backbone = BACKBONES.load(spec.backbone)().build(spec.architecture, data.input_shape)
    cls: type[Learner[Any]] = LEARNERS.load(spec.learner)
    hyper = from_json(cls.hyper_type, spec.hyper)
    learner = cls(
        Encoder(backbone.module, backbone.features), hyper, data.problem, data.train_classes
    )
    return learner, data.input_shape


def episode_shape(task: Mapping[str, Any]) -> EpisodeShape:
    """The tasks that a trial is scored on."""
    return EpisodeShape(task["ways"], task["shots"], task["queries"], task["within_groups"])


def training_shape(task: Mapping[str, Any], data: Dataset, hyper: Hyper) -> EpisodeShape:
    """The tasks it is trained on: the learner's multiple of the ways, if classes allow."""
    ways = task["ways"]
    if hyper.way_factor > 1:
        ways = min(ways * hyper.way_factor, max(data.train_classes, ways))
    return EpisodeShape(ways, task["shots"], task["queries"], task["train_within_groups"])


def training_source(spec: TrialSpec, data: Dataset, learner: Learner[Any]) -> TaskSource:
    """Episodes, or for those that train on classes batches of as many images as an episode has."""
    shape = training_shape(spec.task, data, learner.hyper)
    if learner.trains_on == CLASSES:
        return data.batches(shape.ways * shape.per_class, augment=learner.hyper.augment)
    return data.source("train", shape, augment=learner.hyper.augment)


def device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dataset(spec: TrialSpec) -> Dataset:
    """The data of a spec, which stay loaded in this process."""
    return _loaded(spec.data, json.dumps(dict(spec.data_options), sort_keys=True), str(device()))


@lru_cache(maxsize=2)
def _loaded(name: str, options: str, where: str) -> Dataset:
    return episodes.load(name, json.loads(options), device=where)


def _start(spec: TrialSpec, learner: Learner[Any]) -> TrainState:
    params = learner.init(spec.ways, stream(spec.seed, "init"))
    if spec.initial is not None:
        params = _inherited(params, checkpoints.load(Path(spec.initial))["params"])
    params = {name: value.to(device()) for name, value in params.items()}
    return TrainState.start(learner, params, stream(spec.seed, "train"))


def _inherited(params: Params, given: Params) -> Params:
    """The encoder as given, if these are its parameters: some learners add their own to it."""
    own = {name: value.shape for name, value in params.items() if name.startswith("encoder.")}
    fits = own == {name: value.shape for name, value in given.items()}
    return params | given if fits else params


def _restored(learner: Learner[Any], saved: Mapping[str, Any]) -> TrainState:
    return TrainState.restore(learner, saved["train"], device=device())


def _advance(
    spec: TrialSpec,
    learner: Learner[Any],
    state: TrainState,
    seconds: float,
    start: float,
    measure: Collection[str],
) -> TrialReport:
    """Train to the next scoring, and score."""
    target = min(state.iteration + spec.validate_every, spec.iterations)
    try:
        _train(spec, learner, state, target)
    except Diverged as stop:
        spent = seconds + time.perf_counter() - start
        return TrialReport(stop.iteration, math.nan, math.nan, spent, DIVERGED, stop.reason)
    score = _score(spec, learner, state.params, "validation", "validation", spec.validation_tasks)
    end = COMPLETE if state.iteration >= spec.iterations else None
    measures = _measures(spec, learner, state.params, score, measure) if end else {}
    spent = seconds + time.perf_counter() - start
    if not math.isfinite(score.mean):
        reason = "its predictions aren't finite"
        return TrialReport(state.iteration, math.nan, math.nan, spent, DIVERGED, reason)
    return TrialReport(state.iteration, score.mean, score.ci95, spent, end, measures=measures)


def _measures(
    spec: TrialSpec, learner: Learner[Any], params: Params, score: Score, names: Collection[str]
) -> dict[str, float]:
    found = {}
    if ECE in names and score.ece is not None:
        found[ECE] = score.ece
    if ADAPTATION in names:
        source = dataset(spec).source("validation", episode_shape(spec.task))
        found[ADAPTATION] = latency_ms(
            learner, params, source.sample(ADAPTATION_TASKS, stream(0, ADAPTATION))
        )
    return found


def _train(spec: TrialSpec, learner: Learner[Any], state: TrainState, target: int) -> None:
    if not learner.learned(state.params):
        state.iteration = target
        return
    source = training_source(spec, dataset(spec), learner)
    for progress in meta_train(
        learner, state, source=source, iterations=spec.iterations, strategy=_strategy(spec)
    ):
        if progress.iteration >= target:
            break


def _score(
    spec: TrialSpec, learner: Learner[Any], params: Params, split: str, name: str, tasks: int
) -> Score:
    source = dataset(spec).source(split, episode_shape(spec.task))
    # Seed 0 whatever the trial's seed: everything that is compared is scored on the same tasks.
    found = meta_evaluate(
        learner,
        params,
        source=source,
        tasks=tasks,
        generator=stream(0, name),
        batch=EVALUATION_BATCH_TASKS,
        strategy=_strategy(spec),
    )
    scores = tuple(found.scores.tolist())
    return Score(found.mean, found.ci95, tasks, found.loss, found.ece, scores)


def _strategy(spec: TrialSpec) -> str:
    return choose(device(), torch.get_num_threads(), dataset(spec).input_shape)
