"""Trials that differ in numbers only, side by side as one program, each with its own checkpoint.

What a trial reports is what it would report by itself, but for rounding.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from autometa.engine.cohort import Ends, evaluate_cohort, train_cohort
from autometa.engine.members import stacked
from autometa.engine.precision import set_precision
from autometa.engine.train import Diverged
from autometa.episodes import stream
from autometa.trial.scoring import EVALUATION_BATCH_TASKS, VALIDATION, Score, score_of
from autometa.trial.spec import TrialSpec, dataset, episode_shape, training_source
from autometa.trial.training import (
    Course,
    TrialReport,
    course_of,
    diverged_report,
    last_report,
    save,
    scored_report,
)

Reports = dict[int, TrialReport | Exception]


class CohortRun:
    """Members of one study, from their checkpoints to the end of their budget.

    Those that a dead process left behind the others catch up first.

    Args:
        specs: Of trials that agree on everything but numbers; without ``seconds``, ``rivals`` and
            ``earlier``, which would part them.
        measure: As of :func:`~autometa.trial.training.run_trial`.
    """

    def __init__(
        self,
        specs: Sequence[TrialSpec],
        checkpoints: Sequence[Path],
        measure: Collection[str] = (),
    ) -> None:
        self._checkpoints, self._measure = checkpoints, measure
        self._reports: dict[int, TrialReport] = {}
        self._going: dict[int, Course] = {}
        set_precision(specs[0].precision)
        for member, (spec, checkpoint) in enumerate(zip(specs, checkpoints, strict=True)):
            saved, report = last_report(checkpoint)
            if report is not None:
                self._reports[member] = report
            if report is None or report.end is None:
                self._going[member] = course_of(spec, saved)
        self._known: Reports = dict(self._reports)

    @property
    def done(self) -> bool:
        """Whether nobody has anything left to do, or to tell."""
        return not self._going and not self._known

    def advance(self, cut: Collection[int] = ()) -> Reports:
        """Train to the next scoring, and score; nothing when all are done.

        Args:
            cut: Members that shall go no further.

        Returns:
            Member → its report, or the error that its computation ended with. First come the
            reports that were saved before.
        """
        if self._known:
            known, self._known = self._known, {}
            return known
        for member in cut:
            self._going.pop(member, None)
        if not self._going:
            return {}
        behind = min(self._iteration(member) for member in self._going)
        group = [member for member in self._going if self._iteration(member) == behind]
        start = time.perf_counter()
        found = self._train_and_score(group, behind)
        each = (time.perf_counter() - start) / len(group)
        return {member: self._kept(member, report, each) for member, report in found.items()}

    def _iteration(self, member: int) -> int:
        report = self._reports.get(member)
        return report.iteration if report else 0

    def _train_and_score(self, group: list[int], iteration: int) -> Reports:
        spec = self._going[group[0]].spec
        target = min(iteration + spec.validate_every, spec.iterations)
        ends = self._train(group, target)
        found: Reports = {group[position]: _told(end) for position, end in ends.items()}
        left = [member for member in group if member not in found]
        for member, score in zip(left, self._scores(left), strict=True):
            found[member] = scored_report(self._going[member], target, score, self._measure)
        return found

    def _train(self, group: list[int], target: int) -> Ends:
        courses = [self._going[member] for member in group]
        first, learners = courses[0], [course.learner for course in courses]
        states = [course.state for course in courses]
        if not first.learner.learned(first.state.params):
            for state in states:
                state.iteration = target
            return {}
        source = training_source(first.spec, dataset(first.spec), first.learner)
        return train_cohort(
            learners, states, source=source, iterations=first.spec.iterations, until=target
        )

    def _scores(self, group: list[int]) -> list[Score]:
        """On the same tasks as a trial by itself."""
        if not group:
            return []
        courses = [self._going[member] for member in group]
        spec = courses[0].spec
        found = evaluate_cohort(
            [course.learner for course in courses],
            stacked(course.state.params for course in courses),
            source=dataset(spec).source(VALIDATION, episode_shape(spec.task)),
            tasks=spec.validation_tasks,
            generator=stream(0, VALIDATION),
            batch=EVALUATION_BATCH_TASKS,
        )
        return [score_of(each) for each in found]

    def _kept(
        self, member: int, report: TrialReport | Exception, seconds: float
    ) -> TrialReport | Exception:
        """A report with its member's share of the time, in its checkpoint too."""
        if isinstance(report, Exception):
            del self._going[member]
            return report
        earlier = self._reports.get(member)
        report = replace(report, seconds=seconds + (earlier.seconds if earlier else 0.0))
        self._reports[member] = report
        save(self._going[member], report, self._checkpoints[member])
        if report.end is not None:
            del self._going[member]
        return report


def _told(end: Exception) -> TrialReport | Exception:
    return diverged_report(end.iteration, 0.0, end.reason) if isinstance(end, Diverged) else end
