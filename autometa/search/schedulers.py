"""Ray Tune's schedulers by the name that a configuration gives them, made to survive a restart.

All go by meta-iterations. ``asha`` (Li et al. 2020, arXiv:1810.05934) cuts at every rung all but
the best of those that have come so far; ``hyperband`` (Li et al. 2018, arXiv:1603.06560) is the
same with several brackets, some of which begin to cut later; ``median`` (Golovin et al. 2017,
"Google Vizier", section 3.2.2) cuts what has never been as good as the median of the others' means;
``pbt`` cuts the worst share at each comparison, and leaves the rest to ``population.py``.
"""

from __future__ import annotations

import math
import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    AsyncHyperBandScheduler,
    FIFOScheduler,
    MedianStoppingRule,
    TrialScheduler,
)

from autometa.config import StudyConfig
from autometa.search.rungs import SortedBracket
from autometa.search.study import MAXIMIZE, RUNNING, TrialRow

NOBODY: Any = None
"""In the place of Tune's controller, which these schedulers never ask."""

Curves = Mapping[str, Mapping[int, float]]
"""A trial's name → meta-iteration → score."""


@dataclass(frozen=True, eq=False)
class Stand:
    """What a scheduler needs to see of a trial, for trials that Ray doesn't run."""

    trial_id: str

    @property
    def config(self) -> dict[str, Any]:
        return {"name": self.trial_id}


class Nimble(TrialScheduler):
    """A scheduler that finds the next trial among those that live.

    Tune's own go through all there ever were, several times a trial.
    """

    def choose_trial_to_run(self, tune_controller: Any) -> Trial | None:
        live: Iterable[Trial] = tune_controller.get_live_trials()
        for status in (Trial.PENDING, Trial.PAUSED):
            if waiting := [trial for trial in live if trial.status == status]:
                return min(waiting, key=lambda trial: str(trial.config["name"]))
        return None


class InTurn(Nimble, FIFOScheduler):
    """Cuts nothing."""


class Resumable(Nimble):
    """A scheduler that knows what the trials that it goes on with had scored in an earlier run."""

    def __init__(self, earlier: Curves, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._earlier = earlier
        self._cut: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        decision = self.CONTINUE
        for iteration, score in self._earlier.get(trial.config["name"], {}).items():
            result = {"iteration": iteration, "score": score}
            decision = super().on_trial_result(tune_controller, trial, result)
        if decision == self.STOP:  # decided, but not yet done when that run ended
            self._cut.add(trial.trial_id)

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        if trial.trial_id in self._cut:
            return self.STOP
        if result["iteration"] in self._earlier.get(trial.config["name"], {}):
            return self.CONTINUE  # a trial repeats its last report when it goes on
        return super().on_trial_result(tune_controller, trial, result)


class NamedBrackets(AsyncHyperBandScheduler):
    """ASHA where there is one bracket, else Hyperband; a trial's bracket depends on its name."""

    _brackets: list[SortedBracket]  # type: ignore[assignment]

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._brackets = [SortedBracket(each) for each in self._brackets]

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        super().on_trial_add(tune_controller, trial)
        self._trial_info[trial.trial_id] = self._brackets[self.bracket(trial.config["name"])]

    def cutoffs(self, name: str) -> list[tuple[float, float]]:
        """(Milestone, the least score that passes) of each rung where anything is known."""
        bracket = self._brackets[self.bracket(name)]
        known = [(at, bracket.cutoff(rung)) for at, rung in bracket._rungs]
        sign: float = self._metric_op or 1.0
        return [(at, sign * cut) for at, cut in known if cut is not None]

    def bracket(self, name: str) -> int:
        """Each bracket has the same share of the budget: η^s / (s + 1) trials for s rungs.

        (Li et al. 2018, algorithm 1, line 3.)
        """
        rungs = range(len(self._brackets) - 1, -1, -1)
        shares = [self._reduction_factor**s / (s + 1) for s in rungs]
        return random.Random(name).choices(range(len(shares)), shares)[0]


class ResumableHyperBand(Resumable, NamedBrackets):
    """ASHA or Hyperband."""


class UnpausedMedian(MedianStoppingRule):
    """The median stopping rule; a trial that too few others can be compared with goes on."""

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        # Among the trials of an earlier run are some that would be cut earlier now.
        self._stopped_trials.discard(trial)
        return super().on_trial_result(tune_controller, trial, result)

    def _on_insufficient_samples(self, tune_controller: Any, trial: Any, time: float) -> str:
        return self.CONTINUE


class ResumableMedian(Resumable, UnpausedMedian):
    """The median stopping rule."""


class Truncation(FIFOScheduler):
    """Cuts a trial in the worst share of those that went on from the same meta-iteration.

    "Truncation selection" of population based training (Jaderberg 2017, section 4.1.1).

    Args:
        every: Meta-iterations between comparisons.
        end: Of the full budget, where nothing is compared.
        share: That is cut; nothing while there are fewer than 1 / share trials.
    """

    def __init__(self, *, every: int, end: int, share: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._every, self._end, self._share = every, end, share
        self._onward: dict[int, list[float]] = {}
        self._maximize = True

    def set_search_properties(self, metric: str | None, mode: str | None, **spec: Any) -> bool:
        self._maximize = mode == "max"
        return bool(super().set_search_properties(metric, mode, **spec))

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        iteration = result["iteration"]
        if iteration % self._every or iteration >= self._end or math.isnan(result["score"]):
            return self.CONTINUE
        score = result["score"] if self._maximize else -result["score"]
        onward = self._onward.setdefault(iteration, [])
        if bisect_left(onward, score) < int(self._share * (len(onward) + 1)):
            return self.STOP
        insort(onward, score)
        return self.CONTINUE


class ResumableTruncation(Resumable, Truncation):
    """The cuts of population based training."""


def make_scheduler(config: StudyConfig, rows: Iterable[TrialRow], direction: str) -> TrialScheduler:
    """The scheduler, knowing the scores of every trial so far."""
    if config.scheduler.name == "none":
        return InTurn()  # type: ignore[no-untyped-call]
    trials = list(rows)
    scheduler = _scheduler(config, {t.name: t.curve for t in trials if t.end == RUNNING})
    scheduler.set_search_properties("score", "max" if direction == MAXIMIZE else "min")
    for trial in trials:
        if trial.end != RUNNING:
            _replay(scheduler, trial)
    return scheduler


def rivals(scheduler: TrialScheduler, name: str, config: StudyConfig) -> dict[int, float]:
    """Scoring → the score that a trial has to reach there as things stand: ASHA's and Hyperband's.

    Args:
        name: Of the trial, which tells its bracket.
    """
    if not isinstance(scheduler, NamedBrackets):
        return {}
    every, end = config.validation.every, config.budget.iterations
    return {
        min(math.ceil(milestone / every) * every, end): cutoff
        for milestone, cutoff in scheduler.cutoffs(name)
    }


def for_tune(scheduler: TrialScheduler) -> TrialScheduler:
    """Tune sets metric and mode again, and refuses to where they are known already."""
    scheduler._metric = scheduler._mode = None  # type: ignore[attr-defined]
    return scheduler


def _scheduler(config: StudyConfig, earlier: Curves) -> Resumable:
    settings, end = config.scheduler, config.budget.iterations
    if settings.name == "pbt":
        return ResumableTruncation(earlier, every=settings.grace, end=end, share=settings.share)
    if settings.name == "median":
        return ResumableMedian(earlier, time_attr="iteration", grace_period=settings.grace)
    rungs = int(math.log(end / settings.grace) / math.log(settings.reduction_factor)) + 1
    return ResumableHyperBand(
        earlier,
        time_attr="iteration",
        max_t=end,
        grace_period=settings.grace,
        reduction_factor=settings.reduction_factor,
        brackets=rungs if settings.name == "hyperband" else 1,
        stop_last_trials=False,
    )


def _replay(scheduler: Resumable, trial: TrialRow) -> None:
    """Show a resumed search's scheduler what a trial that has ended had scored."""
    stand = Stand(trial.name)
    scheduler.on_trial_add(NOBODY, stand)
    for iteration, score in trial.curve.items():
        scheduler.on_trial_result(NOBODY, stand, {"iteration": iteration, "score": score})
