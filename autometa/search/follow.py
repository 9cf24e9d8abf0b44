"""Following a search that another process runs, by looking at its storage again and again.

What is new since the last look becomes the same events that the search tells its own view. Nothing
is written.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import optuna

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.announce import PHASE, RUN
from autometa.search.events import (
    Event,
    Links,
    Observer,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.folder import StudyFolder
from autometa.search.study import (
    REJECTED,
    RUNNING,
    TrialRow,
    load_optuna_study,
    row,
    score_direction,
)


def onlooker(config: StudyConfig) -> optuna.Study:
    """The study of a configuration; its own database is opened for reading alone.

    Raises:
        StudyError: The storage can't be reached or doesn't hold the study.
    """
    database = StudyFolder(config.folder).database
    if config.storage is not None or not database.exists():
        return load_optuna_study(config)
    try:
        storage = optuna.storages.RDBStorage(
            f"sqlite:///file:{quote(str(database.absolute()))}?mode=ro&uri=true",
            engine_kwargs={"connect_args": {"timeout": 60}},
            skip_table_creation=True,
        )
        return optuna.load_study(study_name=config.name, storage=storage)
    except Exception:  # SQLite has to repair what a kill left; each driver raises its own
        return load_optuna_study(config)


def follow(folder: Path, storage: str | None, observer: Observer, every_s: float) -> None:
    """Tell what a search does until no process drives it any more.

    Raises:
        StudyError: No study there, or its storage can't be read.
    """
    follower = Follower(StudyFolder(folder), storage, observer)
    while follower.look():
        time.sleep(every_s)


class Follower:
    """Looks at a study, and tells an observer what it hasn't told yet."""

    def __init__(self, folder: StudyFolder, storage: str | None, observer: Observer) -> None:
        config = folder.config()
        self._config = config.model_copy(update={"storage": storage}) if storage else config
        self._folder = folder
        self._observer = observer
        self._study: optuna.Study | None = None
        self._reported: dict[int, int] = {}
        """Trial → how many of its scores were told; of those that were told to have begun."""
        self._ended: set[int] = set()
        self._phase: Phase | None = None

    def look(self) -> bool:
        """Tell what is new; whether a process still drives the study."""
        running = self._folder.running()  # first: what it writes from now on is seen next time
        if self._study is None:
            try:
                self._study = onlooker(self._config)
            except StudyError:
                if running and self._folder.untouched():
                    return True  # it has only just begun
                raise
            self._observer(self._started(self._study))
        for event in [*self._trials(self._study), *self._phases(self._study)]:
            self._observer(event)
        return running

    def _started(self, study: optuna.Study) -> SearchStarted:
        run = study.user_attrs.get(RUN, {})
        running_s = max(time.time() - run["began"], 0.0) if run else 0.0
        return SearchStarted(
            self._config,
            score_direction(study),
            int(run.get("ended", 0)),
            Links(run.get("dashboard")),
            running_s=running_s,
            spent_s=float(run.get("spent_s", 0.0)),
        )

    def _trials(self, study: optuna.Study) -> list[Event]:
        """Beginnings and scores in the trials' order, then ends in that of time."""
        told: list[Event] = []
        ended: list[TrialRow] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number in self._ended or "candidate" not in trial.user_attrs:
                continue
            found = row(trial)
            if found.end != REJECTED:
                told += self._course(found)
            if found.end != RUNNING:
                ended.append(found)
                self._ended.add(found.number)
        return [*told, *map(_end, sorted(ended, key=lambda each: each.ended_at or 0.0))]

    def _course(self, found: TrialRow) -> Iterator[Event]:
        number = found.number
        if number not in self._reported:
            self._reported[number] = 0
            yield TrialStarted(number, found.name, found.learner, found.backbone)
        points = list(found.curve.items())
        for iteration, score in points[self._reported[number] :]:
            last = iteration == found.iteration
            known = found.ci95 if last and found.ci95 is not None else float("nan")
            yield TrialReported(number, iteration, score, known)
        self._reported[number] = len(points)

    def _phases(self, study: optuna.Study) -> Iterator[Event]:
        kept = study.user_attrs.get(PHASE)
        phase = Phase(**kept) if kept else None
        if phase != self._phase and phase is not None:
            yield phase
        self._phase = phase


def _end(found: TrialRow) -> TrialEnded:
    return TrialEnded(
        found.number,
        found.name,
        found.end,
        found.reason,
        found.iteration,
        found.score,
        found.ci95,
        found.seconds,
        ago_s=max(time.time() - found.ended_at, 0.0) if found.ended_at is not None else 0.0,
    )
