"""Samplers in studies of many thousand trials: they look at the best and at the newest."""

from __future__ import annotations

from collections.abc import Container, Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autometa.search.evolution import fitness

MOST = 2000
"""Trials that a sampler looks at; all of them cost it a second a proposal at ten thousand."""
BEST = 200
"""Of these, how many are there for their score. TPE models the 25 best apart from the rest."""


class BoundedSampler(BaseSampler):
    """Another sampler, which sees at most ``most`` trials; with no more it proposes as ever."""

    def __init__(self, sampler: BaseSampler, most: int = MOST, best: int = BEST) -> None:
        self._sampler, self._most, self._best = sampler, most, best
        self._view: tuple[int, optuna.Study] | None = None

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """That of the other sampler."""
        return self._sampler.infer_relative_search_space(self._seen(study, trial), trial)

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """What the other sampler proposes."""
        return self._sampler.sample_relative(self._seen(study, trial), trial, search_space)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """What the other sampler proposes."""
        seen = self._seen(study, trial)
        return self._sampler.sample_independent(seen, trial, param_name, param_distribution)

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """As the other sampler."""
        self._sampler.before_trial(study, trial)

    def after_trial(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        state: TrialState,
        values: Sequence[float] | None,
    ) -> None:
        """As the other sampler."""
        self._sampler.after_trial(study, trial, state, values)

    def _seen(self, study: optuna.Study, trial: FrozenTrial) -> optuna.Study:
        """The same for all parameters of a trial."""
        if self._view is None or self._view[0] != trial.number:
            few = len(study.get_trials(deepcopy=False)) <= self._most
            view = study if few else BoundedStudy(study, self._most, self._best)
            self._view = trial.number, view
        return self._view[1]


class BoundedStudy(optuna.Study):
    """A study's best and newest trials, in their order."""

    def __init__(self, study: optuna.Study, most: int, best: int) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler)
        trials = study.get_trials(deepcopy=False)
        kept = {trial.number for trial in trials[best - most :]}
        if len(study.directions) == 1:
            older = [trial for trial in trials if trial.number not in kept]
            older.sort(key=lambda trial: fitness(trial, study.direction), reverse=True)
            kept |= {trial.number for trial in older[:best]}
        self._kept = [trial for trial in trials if trial.number in kept]

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._kept if states is None or trial.state in states]
