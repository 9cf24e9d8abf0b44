"""A trial from its first meta-iteration to its last, with a report at every scoring.

It keeps a checkpoint, so that a killed trial goes on where it was, to the bit.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Collection, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from autometa.engine import checkpoint as checkpoints
from autometa.engine.precision import set_precision
from autometa.engine.split import SparingGradient
from autometa.engine.train import Diverged, TrainState
from autometa.episodes import stream
from autometa.learners.base import Learner, Params
from autometa.trial.pace import affordable
from autometa.trial.scoring import Score, measures, validate
from autometa.trial.spec import TrialSpec, build_learner, device
from autometa.trial.steps import chosen_strategy, steps

COMPLETE = "complete"
DIVERGED = "diverged"
TASKS = "validation_tasks"
ITERATIONS = "meta_iterations"


@dataclass(frozen=True)
class TrialReport:
    """A trial at one of its scorings.

    Attributes:
        score: Mean over meta-validation tasks; NaN when the trial diverged.
        ci95: Half of the 95 % interval, over tasks.
        seconds: Training and scoring so far, earlier processes included.
        end: None while it goes on, else ``complete`` or ``diverged``, with its ``reason``.
        measures: What else is known. Of a complete trial what was to be measured: ``adaptation``
            and ``memory``, milliseconds and bytes to adapt to a meta-validation task and answer
            its queries, and ``ece``.
            Where they differ between trials, ``validation_tasks`` of this scoring and
            ``meta_iterations`` of the full budget.
    """

    iteration: int
    score: float
    ci95: float
    seconds: float
    end: str | None = None
    reason: str = ""
    measures: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Course:
    """A trial on its way.

    Attributes:
        learners: (meta-iteration, the learner until then): they share all but the outer loop.
        total: Meta-iterations of the full budget, which are reported as ``spec.iterations``.
        strategy: How the engine batches tasks, from the first meta-iteration to the last.
        gradient: Remembers how a task batch has to be split, and whether inner steps have to be
            computed again, if memory is short.
    """

    spec: TrialSpec
    learners: tuple[tuple[int, Learner[Any]], ...]
    state: TrainState
    total: int
    strategy: str
    gradient: SparingGradient = field(default_factory=SparingGradient)

    @property
    def learner(self) -> Learner[Any]:
        """The last one, by which trained meta-parameters are scored."""
        return self.learners[-1][1]

    def own(self, iteration: int) -> int:
        """The trial's own number of a reported meta-iteration."""
        return round(iteration * self.total / self.spec.iterations)

    def reported(self, iteration: int) -> int:
        """The inverse of :meth:`own`."""
        return math.ceil(iteration * self.spec.iterations / self.total)


def run_trial(
    spec: TrialSpec, checkpoint: Path, measure: Collection[str] = ()
) -> Iterator[TrialReport]:
    """Train and score, from the checkpoint if there is one; it is renewed at every report.

    ``measure`` names what else than the score to measure at the end.
    """
    set_precision(spec.precision)
    saved, report = last_report(checkpoint)
    if report is not None:
        yield report
        if report.end is not None:
            return
    course = course_of(spec, saved)
    seconds = report.seconds if report else 0.0
    iteration = report.iteration if report else course.reported(course.state.iteration)
    while iteration < spec.iterations:
        target = min(iteration + spec.validate_every, spec.iterations)
        report = _advance(course, target, seconds, measure)
        save(course, report, checkpoint)
        yield report
        if report.end is not None:
            return
        iteration, seconds = report.iteration, report.seconds


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


def kept(checkpoint: Path, iteration: int) -> Path:
    """The checkpoint of a meta-iteration that other trials go on from."""
    return checkpoint.with_name(f"{checkpoint.stem}@{iteration}{checkpoint.suffix}")


def last_report(checkpoint: Path) -> tuple[Mapping[str, Any] | None, TrialReport | None]:
    """What a trial has saved, and its report then; nothing before its first."""
    if not checkpoint.exists():
        return None, None
    saved = checkpoints.load(checkpoint)
    return saved, TrialReport(**json.loads(saved["report"]))


def course_of(spec: TrialSpec, saved: Mapping[str, Any] | None) -> Course:
    """A trial where it was saved, or where it begins."""
    if saved is None and spec.start is not None:
        saved = checkpoints.load(Path(spec.start))
    learners = [(until, build_learner(phase)[0]) for until, phase in spec.phases()]
    if saved is None:
        first = learners[0][1]
        state = begun(spec, first)
        chosen = chosen_strategy(spec, first, state)
        total = affordable(spec, first, state, chosen)
        return Course(spec, tuple(learners), state, total, chosen)
    iteration = saved["train"]["iteration"]
    now = next((each for until, each in learners if iteration < until), learners[-1][1])
    state = TrainState.restore(now, saved["train"], device=device())
    return Course(spec, tuple(learners), state, saved["total"], saved["strategy"])


def begun(spec: TrialSpec, learner: Learner[Any]) -> TrainState:
    """The state of a trial before its first meta-iteration."""
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


def save(course: Course, report: TrialReport, checkpoint: Path) -> None:
    """Renew a trial's checkpoint."""
    content = {
        "train": course.state.state_dict(),
        "report": json.dumps(asdict(report)),
        "total": course.total,
        "strategy": course.strategy,
    }
    every = course.spec.keep_every
    if every and report.end is None and report.iteration % every == 0:
        checkpoints.save(kept(checkpoint, report.iteration), content)
    checkpoints.save(checkpoint, content)


def _advance(course: Course, target: int, seconds: float, measure: Collection[str]) -> TrialReport:
    """Train to the next scoring, and score."""
    spec, state, start = course.spec, course.state, time.perf_counter()

    def diverged(iteration: int, reason: str) -> TrialReport:
        return diverged_report(iteration, seconds + time.perf_counter() - start, reason)

    try:
        _train(course, course.own(target))
    except Diverged as stop:
        return diverged(course.reported(stop.iteration), stop.reason)
    score = validate(spec, course.learner, state.params, target)
    report = scored_report(course, target, score, measure)
    return replace(report, seconds=seconds + time.perf_counter() - start)


def scored_report(
    course: Course, iteration: int, score: Score, measure: Collection[str]
) -> TrialReport:
    """The report of a scoring, with what is measured at the end; its seconds are for others."""
    if not math.isfinite(score.mean):
        return diverged_report(iteration, 0.0, "its predictions aren't finite")
    spec, found = course.spec, _known(course, score)
    if end := COMPLETE if iteration == spec.iterations else None:
        found |= measures(spec, course.learner, course.state.params, score, measure)
    return TrialReport(iteration, score.mean, score.ci95, 0.0, end, measures=found)


def diverged_report(iteration: int, seconds: float, reason: str) -> TrialReport:
    """The last report of a trial that left the finite numbers."""
    return TrialReport(iteration, math.nan, math.nan, seconds, DIVERGED, reason)


def _known(course: Course, score: Score) -> dict[str, float]:
    found: dict[str, float] = {}
    if course.spec.most_tasks is not None:
        found[TASKS] = score.tasks
    if course.spec.seconds is not None:
        found[ITERATIONS] = course.total
    return found


def _train(course: Course, target: int) -> None:
    """Train through every phase that begins before the meta-iteration."""
    for until, learner in course.learners:
        end = min(target, course.own(until))
        if course.state.iteration < end:
            _train_phase(course, learner, end)


def _train_phase(course: Course, learner: Learner[Any], target: int) -> None:
    state = course.state
    if not learner.learned(state.params):
        state.iteration = target
        return
    training = steps(course.spec, learner, state, course.total, course.gradient, course.strategy)
    for progress in training:
        if progress.iteration >= target:
            break
