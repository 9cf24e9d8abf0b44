"""What is known of a running search: the events so far, added up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from autometa.config import StudyConfig
from autometa.search.events import (
    Event,
    Links,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.study import COMPLETE, MAXIMIZE, REJECTED, RUNNING, TrialRow


@dataclass
class Line:
    """One trial as a table shows it."""

    number: int
    name: str
    learner: str
    backbone: str
    end: str = RUNNING
    reason: str = ""
    iteration: int = 0
    score: float | None = None
    ci95: float | None = None
    seconds: float = 0.0
    curve: list[float] = field(default_factory=list)

    @classmethod
    def of(cls, row: TrialRow) -> Line:
        return cls(
            number=row.number,
            name=row.name,
            learner=row.learner,
            backbone=row.backbone,
            end=row.end,
            reason=row.reason,
            iteration=row.iteration,
            score=row.score,
            ci95=row.ci95,
            seconds=row.seconds,
            curve=list(row.curve.values()),
        )


class Board:
    """The state behind the live views.

    Attributes:
        begun: Whether the search has begun: before that, its data are prepared and Ray starts.
        earlier: Trials of earlier runs, which say nothing of this one's pace.
        best_at: When the best so far came, by the clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self.config = StudyConfig()
        self.direction = MAXIMIZE
        self.links = Links()
        self.begun = False
        self.earlier = 0
        self._spent_s = 0.0
        self.lines: dict[int, Line] = {}
        self.ended: list[Line] = []
        self.counts: Counter[str] = Counter()
        self.best: Line | None = None
        self.best_at = 0.0
        self.phase: Phase | None = None
        self._phase_from = (0.0, 0)

    def apply(self, event: Event) -> None:
        """Take in one event; those of unknown trials are ignored."""
        match event:
            case SearchStarted():
                self._started(event)
            case TrialStarted(number, name, learner, backbone):
                self.phase, known = None, self.lines.get(number)
                self.lines[number] = known or Line(number, name, learner, backbone)
            case TrialReported(number, iteration, score, ci95):
                if line := self.lines.get(number):
                    line.iteration, line.score, line.ci95 = iteration, score, ci95
                    line.curve.append(score)
            case TrialEnded():
                self._ended(event)
            case Phase():
                if self.phase is None or self.phase.title != event.title:
                    self._phase_from = (self._clock(), event.done)
                self.phase = event

    def _started(self, event: SearchStarted) -> None:
        self.config, self.direction = event.config, event.direction
        self.links, self.earlier, self.begun = event.links, event.ended, True
        self.phase = None
        self._start, self._spent_s = self._clock() - event.running_s, event.spent_s
        for row in event.known:
            line = self.lines[row.number] = Line.of(row)
            if line.end != RUNNING:
                ago_s = time.time() - row.ended_at if row.ended_at is not None else 0.0
                self._count(line, ago_s)

    def _ended(self, event: TrialEnded) -> None:
        if event.end == REJECTED:
            self.counts[REJECTED] += 1
            return
        line = self.lines.setdefault(event.number, Line(event.number, event.name, "", ""))
        line.end, line.reason, line.iteration = event.end, event.reason, event.iteration
        line.score, line.ci95, line.seconds = event.score, event.ci95, event.seconds
        self._count(line, event.ago_s)

    def _count(self, line: Line, ago_s: float) -> None:
        self.counts[line.end] += 1
        if line.end == REJECTED:
            return
        self.ended.append(line)
        if line.end == COMPLETE and self._leads(line):
            self.best, self.best_at = line, self._clock() - max(ago_s, 0.0)

    def _leads(self, line: Line) -> bool:
        if line.score is None:
            return False
        if self.best is None or self.best.score is None:
            return True
        sign = 1 if self.direction == MAXIMIZE else -1
        return sign * line.score > sign * self.best.score

    @property
    def done(self) -> int:
        """Trials that the budget has been charged with."""
        return len(self.ended)

    @property
    def running(self) -> list[Line]:
        return [line for line in self.lines.values() if line.end == RUNNING]

    @property
    def elapsed_s(self) -> float:
        """Of this run."""
        return self._clock() - self._start

    @property
    def spent_s(self) -> float:
        """Of the time budget, earlier runs counted in."""
        return self._spent_s + self.elapsed_s

    @property
    def best_age_s(self) -> float:
        return self._clock() - self.best_at

    @property
    def time_left_s(self) -> float | None:
        """By the pace of this run's trials, and at most what the time budget leaves."""
        budget, fresh = self.config.budget, self.done - self.earlier
        guesses = []
        if fresh > 0:
            guesses.append(self.elapsed_s / fresh * (budget.trials - self.done))
        if budget.time is not None:
            guesses.append(budget.time - self.spent_s)
        return max(min(guesses), 0.0) if guesses else None

    @property
    def phase_left_s(self) -> float | None:
        """By the pace of the phase since its first event; None where nothing tells."""
        if self.phase is None:
            return None
        since, before = self._phase_from
        fresh = self.phase.done - before
        if fresh <= 0:
            return None
        return (self._clock() - since) / fresh * (self.phase.total - self.phase.done)
