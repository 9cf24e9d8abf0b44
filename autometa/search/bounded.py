"""Samplers in studies of many thousand trials: they look at the best and at the newest."""

from __future__ import annotations

import heapq
from collections.abc import Container, Sequence
from typing import Any
from weakref import WeakKeyDictionary

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.search.evolution import fitness

MOST = 300
"""Trials that a sampler looks at: TPE takes 2 ms a proposal for each 25 of them."""
BEST = 75
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
        distinct = KeptStudy(study, _distinct(self._seen(study, trial)))
        return self._sampler.infer_relative_search_space(distinct, trial)

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


class KeptStudy(optuna.Study):
    """A study of only some of its trials."""

    def __init__(self, study: optuna.Study, kept: list[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler)
        self._kept = kept

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._kept if states is None or trial.state in states]


class BoundedStudy(KeptStudy):
    """A study's best and newest trials, in their order."""

    def __init__(self, study: optuna.Study, most: int, best: int) -> None:
        trials = study.get_trials(deepcopy=False)
        older = max(0, len(trials) - (most - best))
        kept: list[int] = []
        if len(study.directions) == 1:
            kept = _elite(study, best).numbers(trials, older)
        super().__init__(study, [trials[number] for number in kept] + trials[older:])


def _distinct(study: optuna.Study) -> list[FrozenTrial]:
    """The first trial of each state and each set of dimensions: a search space goes by no more.

    Optuna compares all dimensions of all trials, which takes half of the time of a proposal.
    """
    found: dict[Any, FrozenTrial] = {}
    for trial in study.get_trials(deepcopy=False):
        same = map(id, trial.distributions.values())
        found.setdefault((trial.state, *trial.distributions, *same), trial)
    return list(found.values())


class Elite:
    """The best of a study's first trials, of more and more of them.

    Those that have ended are looked at once, so that a proposal costs the same in a long study.
    """

    def __init__(self, direction: StudyDirection, best: int) -> None:
        self._direction, self._best = direction, best
        self._looked_at = 0
        self._open: list[int] = []
        self._heap: list[tuple[tuple[float, float], int]] = []

    def numbers(self, trials: Sequence[FrozenTrial], until: int) -> list[int]:
        """The numbers of the best before ``until``, ascending; of equals the older is better."""
        new = [*self._open, *range(self._looked_at, until)]
        self._looked_at = until
        self._open = [number for number in new if not trials[number].state.is_finished()]
        for number in new:
            if trials[number].state.is_finished():
                heapq.heappush(self._heap, self._rank(trials[number]))
        for _ in range(len(self._heap) - self._best):
            heapq.heappop(self._heap)
        running = map(self._rank, (trials[number] for number in self._open))
        best = heapq.nlargest(self._best, [*self._heap, *running])
        return sorted(-older for _, older in best)

    def _rank(self, trial: FrozenTrial) -> tuple[tuple[float, float], int]:
        return fitness(trial, self._direction), -trial.number


_ELITES: WeakKeyDictionary[optuna.Study, dict[int, Elite]] = WeakKeyDictionary()


def _elite(study: optuna.Study, best: int) -> Elite:
    """That of a study, which outlives its samplers: each is for one proposal."""
    kept = _ELITES.setdefault(study, {})
    if best not in kept:
        kept[best] = Elite(study.direction, best)
    return kept[best]
