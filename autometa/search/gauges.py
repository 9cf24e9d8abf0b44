"""What Ray exports of a search, for Prometheus to scrape and Grafana to show.

Ray puts ``ray_`` before the names, and forgets within half a minute what isn't said again.
"""

from __future__ import annotations

import math
import threading
from collections import Counter
from collections.abc import Iterable, Mapping

import torch
from ray.util.metrics import Gauge

from autometa.search.events import Event, TrialEnded, TrialStarted
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    FAILED,
    MAXIMIZE,
    PRUNED,
    REJECTED,
    RUNNING,
    TrialRow,
    best_first,
)

EVERY_S = 5
STATES = (RUNNING, COMPLETE, PRUNED, DIVERGED, FAILED, REJECTED)


class Lasting:
    """Gauges whose values are said again and again, by a thread of theirs."""

    def __init__(self) -> None:
        self._values: dict[tuple[Gauge, tuple[tuple[str, str], ...]], float] = {}
        self._over = threading.Event()
        threading.Thread(target=self._repeat, name="gauges", daemon=True).start()

    def set(self, gauge: Gauge, value: float, tags: Mapping[str, str]) -> None:
        """Say a value, from now on."""
        self._values[gauge, tuple(tags.items())] = value
        gauge.set(value, dict(tags))

    def clear(self) -> None:
        """Say nothing of what was."""
        self._values = {}

    def close(self) -> None:
        """End the thread."""
        self._over.set()

    def _repeat(self) -> None:
        while not self._over.wait(EVERY_S):
            for (gauge, tags), value in list(self._values.items()):
                gauge.set(value, dict(tags))


class SearchGauges:
    """The best score, and how many trials there are of each state; an observer of the search."""

    def __init__(self, study: str, direction: str, rows: Iterable[TrialRow]) -> None:
        self._study, self._sign = study, 1 if direction == MAXIMIZE else -1
        self._lasting = Lasting()
        rows = list(rows)
        self._counts = Counter(row.end for row in rows if row.end != RUNNING)
        self._running: set[int] = set()
        self._best = -math.inf
        self._best_score = Gauge(
            "autometa_best_score",
            description="Best score of a complete trial on meta-validation tasks",
            tag_keys=("study",),
        )
        self._trials = Gauge(
            "autometa_trials", description="Trials of a state", tag_keys=("study", "state")
        )
        for row in best_first(rows, direction)[:1]:
            self._improve(row.score)
        self._show()

    def __call__(self, event: Event) -> None:
        """Take in an event."""
        if isinstance(event, TrialStarted):
            self._running.add(event.number)
        elif isinstance(event, TrialEnded):
            self._running.discard(event.number)
            self._counts[event.end] += 1
            if event.end == COMPLETE:
                self._improve(event.score)
        else:
            return
        self._show()

    def close(self) -> None:
        """Say it no longer."""
        self._lasting.close()

    def _improve(self, score: float | None) -> None:
        if score is not None and self._sign * score > self._best:
            self._best = self._sign * score
            self._lasting.set(self._best_score, score, {"study": self._study})

    def _show(self) -> None:
        counts = self._counts | Counter({RUNNING: len(self._running)})
        for state in STATES:
            tags = {"study": self._study, "state": state}
            self._lasting.set(self._trials, counts[state], tags)


class TrialGauges:
    """How fast a worker's trial trains, and the GPU memory that it takes."""

    def __init__(self) -> None:
        self._speed = Gauge(
            "autometa_tasks_per_second",
            description="Meta-training tasks a second since the last scoring, scoring included",
            tag_keys=("trial",),
        )
        self._memory = Gauge(
            "autometa_gpu_memory_bytes",
            description="Most GPU memory that tensors of the trial took",
            tag_keys=("trial",),
        )
        self._lasting = Lasting()
        self.begin()

    def begin(self) -> None:
        """Another trial."""
        self._tasks, self._seconds = 0.0, 0.0
        self._lasting.clear()
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()

    def show(self, trial: str, tasks: float, seconds: float) -> None:
        """Where a trial is by now: tasks since its beginning, and the seconds that they took."""
        if seconds > self._seconds and math.isfinite(seconds):
            speed = (tasks - self._tasks) / (seconds - self._seconds)
            self._lasting.set(self._speed, max(speed, 0.0), {"trial": trial})
            self._tasks, self._seconds = tasks, seconds
        if torch.cuda.is_available():
            self._lasting.set(self._memory, torch.cuda.max_memory_allocated(), {"trial": trial})
