"""What is known of a running search: the events so far, added up."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.events import (
    Event,
    Links,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.study import (
    COMPLETE,
    MAXIMIZE,
    REJECTED,
    RUNNING,
    TrialRow,
    load_optuna_study,
    rows_of,
)


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
    """The state behind the live views; trials of an earlier run are read from the storage."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._start = clock()
        self.config = StudyConfig()
        self.direction = MAXIMIZE
        self.links = Links()
        self.earlier = 0
        self._unread = 0
        self._spent_s = 0.0
        self.lines: dict[int, Line] = {}
        self.ended: list[Line] = []
        self.counts: Counter[str] = Counter()
        self.best: Line | None = None
        self.phase: Phase | None = None

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
                self.phase = event

    def _started(self, event: SearchStarted) -> None:
        self.config, self.direction = event.config, event.direction
        self.links, self.earlier = event.links, event.ended
        self._start = self._clock()
        rows, self._spent_s = earlier_run(event) if event.ended else ([], 0.0)
        for line in map(Line.of, rows):
            self.lines[line.number] = line
            if line.end != RUNNING:
                self._count(line)
        self._unread = max(event.ended - len(self.ended), 0)

    def _ended(self, event: TrialEnded) -> None:
        if event.end == REJECTED:
            self.counts[REJECTED] += 1
            return
        line = self.lines.setdefault(event.number, Line(event.number, event.name, "", ""))
        line.end, line.reason, line.iteration = event.end, event.reason, event.iteration
        line.score, line.ci95, line.seconds = event.score, event.ci95, event.seconds
        self._count(line)

    def _count(self, line: Line) -> None:
        self.counts[line.end] += 1
        if line.end == REJECTED:
            return
        self.ended.append(line)
        if line.end == COMPLETE and self._leads(line):
            self.best = line

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
        return len(self.ended) + self._unread

    @property
    def running(self) -> list[Line]:
        return [line for line in self.lines.values() if line.end == RUNNING]

    @property
    def elapsed_s(self) -> float:
        return self._clock() - self._start

    @property
    def time_left_s(self) -> float | None:
        """By the pace of this run's trials, and at most what the time budget leaves."""
        budget, fresh = self.config.budget, self.done - self.earlier
        guesses = []
        if fresh > 0:
            guesses.append(self.elapsed_s / fresh * (budget.trials - self.done))
        if budget.time is not None:
            guesses.append(budget.time - self._spent_s - self.elapsed_s)
        return max(min(guesses), 0.0) if guesses else None


def earlier_run(event: SearchStarted) -> tuple[list[TrialRow], float]:
    """Trials and seconds that earlier runs of this study spent, if its storage can be read."""
    try:
        study = load_optuna_study(event.config)
    except StudyError:
        return [], 0.0
    return rows_of(study), float(study.user_attrs.get("search_s", 0.0))
