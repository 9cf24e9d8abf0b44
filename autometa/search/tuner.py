"""The trials of a study on Ray Tune: reused actors, ASHA over meta-iterations, GPU fractions."""

from __future__ import annotations

import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import AsyncHyperBandScheduler, FIFOScheduler, TrialScheduler

from autometa.config import StudyConfig
from autometa.search.events import Event, Observer, TrialEnded
from autometa.search.folder import StudyFolder
from autometa.search.searcher import StudySearcher
from autometa.search.space import SearchSpace
from autometa.search.study import MAXIMIZE, RUNNING, TrialRow, counted, rows_of, trial_name
from autometa.search.worker import TrialWorker
from autometa.trial import TrialSpec

SpecOf = Callable[[dict[str, Any]], TrialSpec]


def run_trials(
    study: optuna.Study,
    space: SearchSpace,
    config: StudyConfig,
    spec_of: SpecOf,
    observer: Observer,
) -> bool:
    """Run trials until the budget of trials or time is spent; False if interrupted before that."""
    folder = StudyFolder(config.folder)

    def trial_config(number: int, candidate: dict[str, Any]) -> dict[str, Any]:
        name = trial_name(number, candidate)
        return {
            "name": name,
            "spec": spec_of(candidate).to_json(),
            "checkpoint": str(folder.checkpoint(name).absolute()),
            "resources": trial_resources(config),
        }

    time_left = seconds_left(study, config)
    if time_left is not None and time_left <= 0:
        return True
    start, spent_before = time.monotonic(), spent_s(study)

    def keep_time(event: Event) -> None:
        if isinstance(event, TrialEnded):
            study.set_user_attr("search_s", spent_before + time.monotonic() - start)
        observer(event)

    searcher = StudySearcher(study, space, config, trial_config, keep_time)
    tuner = tune.Tuner(
        TrialWorker,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max" if study.direction.name.lower() == MAXIMIZE else "min",
            search_alg=searcher,
            scheduler=make_scheduler(config, study),
            num_samples=-1,
            max_concurrent_trials=config.resources.concurrency,
            reuse_actors=True,
            time_budget_s=time_left,
            trial_name_creator=lambda trial: str(trial.config.get("name", trial.trial_id)),
            trial_dirname_creator=lambda trial: str(trial.config.get("name", trial.trial_id)),
        ),
        run_config=tune.RunConfig(
            name="ray",
            storage_path=str(folder.path.absolute()),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
        ),
    )
    tuner.fit()
    if time_left is not None and time.monotonic() - start >= time_left:
        searcher.close_running("the time budget was spent")
        return True
    return counted(rows_of(study)) >= config.budget.trials


def trial_resources(config: StudyConfig) -> dict[str, float]:
    """What one trial asks of Ray."""
    resources = {"CPU": config.resources.cpus_per_trial}
    if config.resources.gpus_per_trial:
        resources["GPU"] = config.resources.gpus_per_trial
    return resources


def spent_s(study: optuna.Study) -> float:
    """Wall time of the search so far, up to the last trial that ended."""
    return float(study.user_attrs.get("search_s", 0.0))


def seconds_left(study: optuna.Study, config: StudyConfig) -> float | None:
    """What is left of the time budget, earlier runs of this study counted in."""
    if config.budget.time is None:
        return None
    return config.budget.time - spent_s(study)


class ResumableASHA(AsyncHyperBandScheduler):
    """ASHA that knows what the trials of an earlier run had scored, those it goes on with included.

    Args:
        earlier: Name → meta-iteration → score, of trials that were running when that run ended.
        options: Of :class:`AsyncHyperBandScheduler`.
    """

    def __init__(self, earlier: dict[str, dict[int, float]], **options: Any) -> None:
        super().__init__(**options)
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
        return super().on_trial_result(tune_controller, trial, result)


def make_scheduler(config: StudyConfig, study: optuna.Study) -> TrialScheduler:
    """The scheduler, knowing the scores of every trial so far."""
    if config.scheduler.name == "none":
        return FIFOScheduler()  # type: ignore[no-untyped-call]
    trials = rows_of(study)
    scheduler = ResumableASHA(
        {trial.name: trial.curve for trial in trials if trial.end == RUNNING},
        time_attr="iteration",
        max_t=config.budget.iterations,
        grace_period=config.scheduler.grace,
        reduction_factor=config.scheduler.reduction_factor,
        stop_last_trials=False,
    )
    maximize = study.direction.name.lower() == MAXIMIZE
    scheduler.set_search_properties("score", "max" if maximize else "min")
    for trial in trials:
        if trial.end != RUNNING:
            _replay(scheduler, trial)
    # Tune sets metric and mode again, and refuses to where they are known already.
    scheduler._metric = scheduler._mode = None
    return scheduler


def _replay(scheduler: ResumableASHA, trial: TrialRow) -> None:
    """Show a resumed search's scheduler what a trial that has ended had scored."""
    stand_in: Any = SimpleNamespace(trial_id=trial.name, config={"name": trial.name})
    nobody: Any = None
    scheduler.on_trial_add(nobody, stand_in)
    for iteration, score in trial.curve.items():
        scheduler.on_trial_result(nobody, stand_in, {"iteration": iteration, "score": score})
