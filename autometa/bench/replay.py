"""A whole search on recorded trials: the study's own searcher and scheduler, a clock that jumps.

Workers are simulated: a trial's next report comes when it would have come, so that proposals and
cuts are made with what was known at that moment. Nothing is trained.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from autometa.bench.surrogate import Prediction, Surrogate
from autometa.config import StudyConfig
from autometa.search.earlier import EarlierStudy
from autometa.search.events import ignore
from autometa.search.schedulers import NOBODY, Stand, make_scheduler
from autometa.search.searcher import StudySearcher
from autometa.search.space import SearchSpace
from autometa.search.study import COMPLETE, MAXIMIZE, trial_name


@dataclass(frozen=True)
class Point:
    """Where a search stands.

    Attributes:
        iterations: Meta-iterations spent by all trials so far.
        seconds: CPU time that they took.
        score: What the incumbent would score without chance; the incumbent is the best by what was
            observed, among the trials that came furthest.
        trials: Proposed so far.
    """

    iterations: int
    seconds: float
    score: float
    trials: int


@dataclass
class Running:
    """A trial that a simulated worker trains."""

    stand: Stand
    trial_id: str
    prediction: Prediction
    luck: float
    reports: int = 0


@dataclass
class Replay:
    """One search: the configuration decides sampler, scheduler, budget and number of workers.

    Args:
        budget: Meta-iterations of all trials together, after which nothing more is begun.
        earlier: Studies that it starts from.

    Attributes:
        study: Its trials.
    """

    surrogate: Surrogate
    space: SearchSpace
    config: StudyConfig
    budget: int
    earlier: Sequence[EarlierStudy] = ()
    points: list[Point] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.study = optuna.create_study(direction=StudyDirection.MAXIMIZE)
        self._searcher = StudySearcher(
            self.study,
            self.space,
            self.config,
            lambda number, each: {"number": number},
            ignore,
            self.earlier,
        )
        self._scheduler: Any = make_scheduler(self.config, [], MAXIMIZE)
        self._random = Random(self.config.seed)
        self._events: list[tuple[float, int, Running]] = []
        self._spent, self._seconds, self._begun = 0, 0.0, 0
        self._best = (-1, -math.inf, 0.0)  # reports, observed, true

    def run(self) -> list[Point]:
        """The points after each report."""
        for _ in range(self.config.resources.concurrency):
            self._begin(0.0)
        while self._events:
            now, _, running = heapq.heappop(self._events)
            if self._report(running):
                self._wait(now, running)
            else:
                self._begin(now)
        return self.points

    def _begin(self, now: float) -> None:
        """A free worker takes the next proposal, while the budget lasts."""
        if self._spent >= self.budget:
            return
        trial_id = str(self._begun)
        proposed = self._searcher.suggest(trial_id)
        if not isinstance(proposed, dict):
            return
        self._begun += 1
        trial: FrozenTrial = self.study.get_trials(deepcopy=False)[proposed["number"]]
        candidate = trial.user_attrs["candidate"]
        prediction = self.surrogate.predict(trial.params, trial.distributions, candidate)
        luck = self._random.gauss(0.0, self.surrogate.chance)
        stand = Stand(trial_name(trial.number, candidate))
        self._scheduler.on_trial_add(NOBODY, stand)
        self._wait(now, Running(stand, trial_id, prediction, luck))

    def _wait(self, now: float, running: Running) -> None:
        share = running.prediction.seconds / len(running.prediction.scores)
        heapq.heappush(self._events, (now + share, int(running.trial_id), running))

    def _report(self, running: Running) -> bool:
        """One report to searcher and scheduler; whether the trial goes on."""
        iterations = self.surrogate.iterations
        index, last = running.reports, running.reports == len(iterations) - 1
        running.reports += 1
        true = running.prediction.scores[index]
        observed = true + running.luck
        self._spent += iterations[index] - (iterations[index - 1] if index else 0)
        self._seconds += running.prediction.seconds / len(iterations)
        self._best = max(self._best, (index, observed, running.prediction.scores[-1]))
        self.points.append(Point(self._spent, self._seconds, self._best[2], self._begun))
        result: dict[str, Any] = {"iteration": iterations[index], "score": observed}
        result |= {"ci95": 0.0, "seconds": 0.0, "measures": []}
        result["end"] = COMPLETE if last else None
        if not last:
            self._searcher.on_trial_result(running.trial_id, result)
            if self._scheduler.on_trial_result(NOBODY, running.stand, result) != "STOP":
                return True
        else:
            self._scheduler.on_trial_complete(NOBODY, running.stand, result)
        self._searcher.on_trial_complete(running.trial_id, result)
        return False
