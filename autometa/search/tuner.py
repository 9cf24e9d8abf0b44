"""The trials of a study on Ray Tune: reused actors, GPU fractions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import optuna
from ray import tune
from ray.tune.schedulers import TrialScheduler

from autometa.config import StudyConfig
from autometa.engine.strategies import VMAP, choose
from autometa.search.cohort.scheduler import ByMember
from autometa.search.cohort.searcher import CohortSearcher
from autometa.search.cohort.worker import CohortWorker
from autometa.search.earlier import kept_earlier
from autometa.search.ended import ForgetEnded
from autometa.search.events import Event, Observer, TrialEnded
from autometa.search.folder import StudyFolder
from autometa.search.schedulers import for_tune, make_scheduler, rivals
from autometa.search.searcher import StudySearcher
from autometa.search.space import SearchSpace
from autometa.search.study import (
    MAXIMIZE,
    best_first,
    counted,
    rows_of,
    score_direction,
    spent_s,
    trial_name,
)
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
        spec = replace(spec_of(candidate), **_in_search(study, scheduler, name, config))
        return {
            "name": name,
            "spec": spec.to_json(),
            "checkpoint": str(folder.checkpoint(name).absolute()),
            "resources": trial_resources(config),
            "measure": list(config.several),
        }

    time_left = seconds_left(study, config)
    if time_left is not None and time_left <= 0:
        return True
    start, spent_before = time.monotonic(), spent_s(study)

    def keep_time(event: Event) -> None:
        if isinstance(event, TrialEnded):
            study.set_user_attr("search_s", spent_before + time.monotonic() - start)
        observer(event)

    direction = score_direction(study)
    scheduler = make_scheduler(config, rows_of(study), direction)
    asked = (study, space, config, trial_config, keep_time, kept_earlier(config))
    size = cohort_size(config, space)
    if size == 1:
        worker, searcher, decides = TrialWorker, StudySearcher(*asked), for_tune(scheduler)
    else:
        worker, decides = CohortWorker, ByMember(scheduler)
        searcher = CohortSearcher(
            *asked, size=size, scheduler=decides, cohort_config=_cohort_config(folder)
        )
    tuner = tune.Tuner(
        worker,
        tune_config=tune.TuneConfig(
            metric="score",
            mode="max" if direction == MAXIMIZE else "min",
            search_alg=searcher,
            scheduler=decides,
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
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),  # trials have theirs
            callbacks=[ForgetEnded()],
        ),
    )
    tuner.fit()
    if time_left is not None and time.monotonic() - start >= time_left:
        searcher.close_running("the time budget was spent")
        return True
    return searcher.exhausted or counted(rows_of(study)) >= config.budget.trials


def cohort_size(config: StudyConfig, space: SearchSpace) -> int:
    """Trials of one program: only where tasks are batched, since elsewhere that is slower."""
    in_shape = next(iter(space.backbones.values())).in_shape
    device = "cuda" if config.resources.gpus else "cpu"
    return config.resources.cohort if choose(device, 1, in_shape) == VMAP else 1


def _cohort_config(folder: StudyFolder) -> Callable[[list[dict[str, Any]]], dict[str, Any]]:
    def together(members: list[dict[str, Any]]) -> dict[str, Any]:
        first = members[0]
        return {
            "name": f"{first['name']}+{len(members) - 1}",
            "members": members,
            "cuts": str(folder.cuts(first["name"]).absolute()),
            "resources": first["resources"],
        }

    return together


def _in_search(
    study: optuna.Study, scheduler: TrialScheduler, name: str, config: StudyConfig
) -> dict[str, Any]:
    """What a trial is told beyond its candidate: how others stand, and what to keep for them."""
    kept = {"keep_every": config.scheduler.grace} if config.scheduler.name == "pbt" else {}
    if config.validation.max_tasks is None:
        return kept
    found = rivals(scheduler, name, config)
    best = best_first(rows_of(study), score_direction(study))
    if len(best) >= config.finalists.count:  # the last one that would become a finalist
        found[config.budget.iterations] = float(best[config.finalists.count - 1].score or 0.0)
    return kept | {"most_tasks": config.validation.max_tasks, "rivals": tuple(found.items())}


def trial_resources(config: StudyConfig) -> dict[str, float]:
    """What one trial asks of Ray."""
    resources = {"CPU": config.resources.cpus_per_trial}
    if config.resources.gpus:
        resources["GPU"] = config.resources.gpus
    return resources


def seconds_left(study: optuna.Study, config: StudyConfig) -> float | None:
    """What is left of the time budget, earlier runs of this study counted in."""
    if config.budget.time is None:
        return None
    return config.budget.time - spent_s(study)
