"""Ray Tune's searcher over ``study.ask`` and ``study.tell``.

Ray's ``OptunaSearch`` (2.60) tells Optuna that a trial cut by the scheduler is complete, leaves
trials with a NaN running for ever, and keeps its state in a pickle. Here cut trials are pruned with
all their scores, diverged and failed ones end as such, and the storage is the only truth.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import TrialState
from ray.tune.search import Searcher

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.earlier import EarlierStudy
from autometa.search.events import Observer, TrialEnded, TrialReported, TrialStarted
from autometa.search.population import CUT_AT, REPLACES, HeirSampler, Heritage, heritage
from autometa.search.samplers import make_sampler, mixed
from autometa.search.space import Candidate, SearchSpace
from autometa.search.study import (
    FAILED,
    PRUNED,
    REJECTED,
    counted,
    curve_of,
    end_trial,
    frozen,
    report_score,
    row,
    rows_of,
    trial_name,
    unfinished,
)
from autometa.search.transfer import TRANSFERRED, Transfer, TransferSampler

MAX_REJECTIONS = 300


class StudySearcher(Searcher):
    """Proposes candidates within the limits until the trial budget is met exactly.

    Trials that a dead driver left running are handed out first, as they were.

    Attributes:
        exhausted: Whether the space had fewer points than the budget has trials.
    """

    def __init__(
        self,
        study: optuna.Study,
        space: SearchSpace,
        config: StudyConfig,
        trial_config: Callable[[int, dict[str, Any]], dict[str, Any]],
        observer: Observer,
        earlier: Sequence[EarlierStudy] = (),
    ) -> None:
        super().__init__()
        self._transfer = Transfer(earlier)
        self._study = study
        self._space = space
        self._config = config
        self._trial_config = trial_config
        self._observer = observer
        self.exhausted = False
        self._live: dict[str, optuna.Trial] = {}
        self._waiting = [t for t in unfinished(study) if self._adopt(t)]
        self._left = config.budget.trials - counted(rows_of(study)) - len(self._waiting)
        # Without those that only wait to be asked for.
        asked = [t for t in study.get_trials(deepcopy=False) if t.state != TrialState.WAITING]
        self._proposed = len(asked)

    def set_search_properties(
        self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any
    ) -> bool:
        """The study knows its own metric and direction."""
        return True

    @staticmethod
    def _adopt(trial: optuna.Trial) -> bool:
        """Keep a trial with a candidate; one that died half-sampled was never started.

        Nor does one go on whose end was written down when the driver died.
        """
        known = trial.user_attrs
        if "end" in known:
            end_trial(trial, known["end"], known.get("reason", ""))
        elif "candidate" not in known:
            end_trial(trial, FAILED, "the search ended while it was being proposed")
        else:
            return True
        return False

    def suggest(self, trial_id: str) -> Any:
        trial = self._next()
        if trial is None:
            return str(Searcher.FINISHED)
        self._live[trial_id] = trial
        return self._started(trial)

    def _next(self) -> optuna.Trial | None:
        return self._waiting.pop(0) if self._waiting else self._ask()

    def _started(self, trial: optuna.Trial) -> dict[str, Any]:
        """What Tune hands to the trial's worker."""
        candidate = trial.user_attrs["candidate"]
        name = trial_name(trial.number, candidate)
        self._observer(
            TrialStarted(trial.number, name, candidate["learner"], candidate["backbone"])
        )
        return self._trial_config(trial.number, candidate)

    def _ask(self) -> optuna.Trial | None:
        if self._left <= 0:
            return None
        for _ in range(MAX_REJECTIONS):
            trial, candidate = self._propose()
            if self._config.sampler.name == "grid" and self._repeats(trial):
                self._end(trial, REJECTED, "every point of the grid has been proposed")
                self._left, self.exhausted = 0, True
                return None
            excess = candidate.excess(self._config.space.limits)
            if excess is None:
                self._left -= 1
                return trial
            self._end(trial, REJECTED, excess)
        raise StudyError(
            f"{MAX_REJECTIONS} candidates in a row exceed space.limits: raise them and resume"
        )

    def _propose(self) -> tuple[optuna.Trial, Candidate]:
        number = self._proposed
        heritage = self._heritage(number)
        self._study.sampler = self._sampler(number, heritage)
        trial = self._study.ask()
        self._proposed += 1
        if isinstance(self._study.sampler, TransferSampler):
            trial.set_user_attr(TRANSFERRED, True)
        candidate = self._space.sample(trial)
        sampled = asdict(candidate)
        if heritage is not None:
            sampled = heritage.candidate(sampled)
            trial.set_user_attr(REPLACES, heritage.replaces)
        trial.set_user_attr("candidate", sampled)  # last: with it, the proposal is whole
        return trial, candidate

    def _heritage(self, number: int) -> Heritage | None:
        scheduler = self._config.scheduler
        if scheduler.name != "pbt":
            return None
        return heritage(self._study, scheduler.share, self._config.seed, number)

    def _sampler(self, number: int, heritage: Heritage | None) -> BaseSampler:
        seed = self._config.seed
        own = make_sampler(self._config.sampler, seed, number)
        if heritage is not None:
            return HeirSampler(heritage.parent, own, mixed(seed, number))
        return self._transfer.sampler(self._study, seed, number, own)

    def _repeats(self, trial: optuna.Trial) -> bool:
        earlier = self._study.get_trials(deepcopy=False)[: trial.number]
        return any(each.params == trial.params for each in earlier)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        self._record(self._live[trial_id], result)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        trial = self._live.pop(trial_id)
        if error or result is None:
            self._end(trial, FAILED, "its worker died")
            return
        self._record(trial, result)
        if end := result.get("end"):
            self._end(trial, end, result.get("reason", ""))
        else:
            self._cut(trial, result["iteration"])

    def _cut(self, trial: optuna.Trial, iteration: int) -> None:
        trial.set_user_attr(CUT_AT, iteration)
        self._end(trial, PRUNED, f"cut by the scheduler at {iteration} meta-iterations")

    def _record(self, trial: optuna.Trial, result: dict[str, Any]) -> None:
        iteration, score = result["iteration"], result["score"]
        if result.get("end") == FAILED:
            return
        # Tune hands the last result over twice, and a resumed trial may repeat its last one.
        if iteration in curve_of(frozen(trial)):
            return
        known = math.isfinite(score)
        report_score(
            trial,
            score,
            iteration,
            seconds=result["seconds"],
            ci95=result["ci95"] if known else None,
            measures=dict(result["measures"]),
        )
        if known:
            self._observer(TrialReported(trial.number, iteration, score, result["ci95"]))

    def _end(self, trial: optuna.Trial, end: str, reason: str) -> None:
        end_trial(trial, end, reason)
        done = row(frozen(trial))
        self._observer(
            TrialEnded(
                done.number,
                done.name,
                end,
                reason,
                done.iteration,
                done.score,
                done.ci95,
                done.seconds,
            )
        )

    def close_running(self, reason: str) -> None:
        """Prune the trials that still run, when the time is up."""
        for trial in self._live.values():
            self._end(trial, PRUNED, reason)
        self._live.clear()

    def __getstate__(self) -> dict[str, Any]:
        """Nothing to pickle, which Tune does: a view holds locks, a storage URL a password."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the storage has it all."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore: the storage has it all."""
