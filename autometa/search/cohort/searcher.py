"""Proposals of whole cohorts: the first is as ever, and others like it but for their numbers."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import optuna
from optuna.distributions import FloatDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import BaseSampler, PartialFixedSampler
from ray.tune.search import Searcher

from autometa.engine.members import agreed, batched
from autometa.learners import LEARNERS
from autometa.learners.domains import Float
from autometa.learners.hyper_json import from_json
from autometa.search.cohort.scheduler import ByMember
from autometa.search.population import Heritage
from autometa.search.samplers import make_sampler
from autometa.search.searcher import StudySearcher
from autometa.search.study import FAILED, PRUNED

Shared = Mapping[str, Any]


class CohortSearcher(StudySearcher):
    """Hands out cohorts of trials, which are recorded one by one.

    Args:
        size: Most trials of a cohort.
        scheduler: Knows whom it has cut.
        cohort_config: (the members' configurations) → that of their worker.
    """

    def __init__(
        self,
        *args: Any,
        size: int,
        scheduler: ByMember,
        cohort_config: Callable[[list[dict[str, Any]]], dict[str, Any]],
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        self._size, self._scheduler, self._cohort_config = size, scheduler, cohort_config
        self._cohorts: dict[str, dict[str, optuna.Trial]] = {}
        self._fixed: dict[str, Any] = {}
        self._resumed = {trial.number for trial in self._waiting}

    def suggest(self, trial_id: str) -> Any:
        first = self._next()
        if first is None:
            return str(Searcher.FINISHED)
        members = [first, *self._companions(first)]
        configs = [self._started(trial) for trial in members]
        names = [config["name"] for config in configs]
        self._cohorts[trial_id] = dict(zip(names, members, strict=True))
        return self._cohort_config(configs)

    def _companions(self, first: optuna.Trial) -> list[optuna.Trial]:
        """Trials that are one program with the first: those that wait, or new ones."""
        shared = _shared(first)
        found = [trial for trial in self._waiting if _shared(trial) == shared][: self._size - 1]
        self._waiting = [trial for trial in self._waiting if trial not in found]
        if first.number in self._resumed:  # the others of its cohort had ended
            return found
        self._fixed = _fixed(first)
        while len(found) + 1 < self._size and len(self._fixed) < len(first.params):
            trial = self._ask()
            if trial is None:
                break
            if _shared(trial) != shared:  # it was put into the study's queue
                self._waiting.append(trial)
                break
            found.append(trial)
        self._fixed = {}
        return found

    def _sampler(self, number: int, heritage: Heritage | None) -> BaseSampler:
        if not self._fixed:
            return super()._sampler(number, heritage)
        own = make_sampler(self._config.sampler, self._config.seed, number)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            return PartialFixedSampler(self._fixed, own)

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        cohort = self._cohorts[trial_id]
        for member in result["members"]:
            trial = cohort.get(member["name"])
            if trial is None:  # Tune hands the last result over twice
                continue
            self._record(trial, member)
            if end := member["end"]:
                self._end(trial, end, member["reason"])
            elif member["name"] in self._scheduler.cut:
                self._cut(trial, member["iteration"])
            else:
                continue
            del cohort[member["name"]]

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        if result is not None and not error:
            self.on_trial_result(trial_id, result)
        for trial in self._cohorts.pop(trial_id).values():
            if error or result is None:
                self._end(trial, FAILED, "its worker died")
            else:
                self._end(trial, PRUNED, "the search was stopped")

    def close_running(self, reason: str) -> None:
        for cohort in self._cohorts.values():
            self._live |= cohort
        self._cohorts.clear()
        super().close_running(reason)


def _shared(trial: optuna.Trial) -> Shared:
    """What trials of one program have in common."""
    candidate = trial.user_attrs["candidate"]
    hyper = from_json(LEARNERS.load(candidate["learner"]).hyper_type, candidate["hyper"])
    alike = {name: candidate[name] for name in ("learner", "backbone", "architecture", "initial")}
    return alike | {"hyper": agreed(hyper)}


def _fixed(first: optuna.Trial) -> dict[str, Any]:
    """The parameters that make the program."""
    learner = first.user_attrs["candidate"]["learner"]
    hyper_type = LEARNERS.load(learner).hyper_type
    free = batched(hyper_type)
    plain = {
        f"{learner}.{each.name}"
        for each in fields(hyper_type)
        if isinstance(each.metadata["domain"], Float) and each.name not in free
    }
    return {
        name: value
        for name, value in first.params.items()
        if name in plain or not isinstance(first.distributions[name], FloatDistribution)
    }
