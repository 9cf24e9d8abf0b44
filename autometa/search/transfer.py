"""What a search takes from earlier studies, and when it stops.

A few proposals are the best trials of the earlier studies as they were, of each study in turn, as
in Feurer, Springenberg, Hutter: "Initializing Bayesian Hyperparameter Optimization via
Meta-Learning", AAAI 2015. Further ones TPE makes of the earlier trials and the study's own
together, each with its rank within its own study instead of its score, since scores on different
tasks can't be compared but by quantiles (Salinas, Shen, Perrone: "A Quantile-based Approach for
Hyperparameter Transfer Learning", ICML 2020, https://arxiv.org/abs/1909.13595).

The rest are those of a search without them, which learns from what was transferred as from its own.
An earlier study advises the share of proposals that it is trusted with: :mod:`.agreement` says how
far it orders the trials here as they turn out. One that misleads is given up, the others go on.
"""

from __future__ import annotations

import copy
from collections.abc import Container, Sequence
from itertools import chain, zip_longest
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.search.agreement import Judge
from autometa.search.earlier import ENDED, EarlierStudy, EarlierTrial, fitting, ranks
from autometa.search.independent import IndependentSampler
from autometa.search.samplers import mixed

TRANSFERRED = "transferred"
"""Attribute of the trials that were proposed from earlier studies."""

PORTFOLIO = 5
"""Earlier trials that are proposed as they were."""
FIRST_OWN = 1
"""Number of the first trial that is proposed without them, for comparison."""


class Transfer:
    """Earlier studies as a source of proposals; without any, there are none.

    As with samplers, all that counts is in the study's storage: what is kept from one proposal to
    the next follows from it.
    """

    def __init__(self, studies: Sequence[EarlierStudy]) -> None:
        self._judged = [(study, Judge(study)) for study in studies]
        self._portfolio = portfolio(studies)

    def sampler(self, study: optuna.Study, seed: int, number: int, own: BaseSampler) -> BaseSampler:
        """That of the next trial: ``own``, or a :class:`TransferSampler` of the trusted studies."""
        if number == FIRST_OWN or not self._judged:
            return own
        trials = study.get_trials(deepcopy=False)
        own_seed = mixed(seed, number)
        needed = Random(own_seed).random()
        trusted = [
            each for each, judge in self._judged if judge.trust(trials, study.direction) > needed
        ]
        if not trusted:
            return own
        used = sum(transferred(t) and "candidate" in t.user_attrs for t in trials)
        member = next(iter(self._portfolio[used : used + 1]), None)
        earlier = [trial for each in trusted for trial in each.trials]
        return TransferSampler(earlier, member if member in earlier else None, own, own_seed)


def portfolio(studies: Sequence[EarlierStudy]) -> list[EarlierTrial]:
    """The best of each study in turn, then the second best, without repetitions."""
    best_first = [sorted(study.trials, key=lambda trial: -trial.rank) for study in studies]
    found: list[EarlierTrial] = []
    for each in filter(None, chain.from_iterable(zip_longest(*best_first))):
        if each.values not in [other.values for other in found]:
            found.append(each)
    return found[:PORTFOLIO]


def transferred(trial: FrozenTrial) -> bool:
    """Whether it was proposed from earlier studies."""
    return bool(trial.user_attrs.get(TRANSFERRED, False))


class TransferSampler(IndependentSampler):
    """One transferred proposal.

    Args:
        earlier: All earlier trials.
        member: One of them, to be proposed as it was; or None.
        own: The study's sampler, for parameters that no earlier trial has.
        seed: Of TPE.
    """

    def __init__(
        self,
        earlier: Sequence[EarlierTrial],
        member: EarlierTrial | None,
        own: BaseSampler,
        seed: int,
    ) -> None:
        self._earlier, self._member, self._own = earlier, member, own
        self._seen: list[FrozenTrial] | None = None
        self._tpe = TPESampler(seed=seed, n_startup_trials=1, constant_liar=True)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The member's value if it fits here, TPE's, or that of the study's sampler."""
        asked = (study, trial, param_name, param_distribution)
        if self._member and param_name in self._member.values:
            found = fitting(self._member.values[param_name], param_distribution)
            if found:
                return found[0]
        earlier = _observed(self._earlier, param_name, param_distribution)
        if not earlier:
            return self._own.sample_independent(*asked)
        if self._seen is None:
            self._seen = _seen(study)
        view = RankedView(study, [*earlier, *self._seen])
        return self._tpe.sample_independent(view, *asked[1:])


def _observed(
    trials: Sequence[EarlierTrial], name: str, domain: BaseDistribution
) -> list[FrozenTrial]:
    """One parameter of the earlier trials that have a fitting value, from the first to the last."""
    known = [(each, fitting(each.values[name], domain)) for each in trials if name in each.values]
    found = [(trial.rank, value) for trial, values in known for value in values]
    return [
        FrozenTrial(
            number=place - len(found),
            trial_id=place - len(found),
            state=TrialState.COMPLETE,
            value=rank,
            datetime_start=None,
            datetime_complete=None,
            params={name: value},
            distributions={name: domain},
            user_attrs={},
            system_attrs={},
            intermediate_values={},
        )
        for place, (rank, value) in enumerate(found)
    ]


def _seen(study: optuna.Study) -> list[FrozenTrial]:
    """The study's own trials: those that ended with ranks for scores, and those that run."""
    trials = study.get_trials(deepcopy=False)
    ended = [trial for trial in trials if trial.state in ENDED]
    places = ranks(ended, study.direction)
    shown = [_with(trial, rank) for trial, rank in zip(ended, places, strict=True)]
    return [*shown, *(trial for trial in trials if trial.state == TrialState.RUNNING)]


def _with(trial: FrozenTrial, rank: float) -> FrozenTrial:
    shown = copy.copy(trial)
    shown.state, shown.values = TrialState.COMPLETE, [rank]
    return shown


class RankedView(optuna.Study):
    """A study of which a sampler sees these trials, whose scores are ranks."""

    def __init__(self, study: optuna.Study, trials: Sequence[FrozenTrial]) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler)
        self._trials = trials
        self._directions = [StudyDirection.MAXIMIZE]  # a better rank is larger

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        return [trial for trial in self._trials if states is None or trial.state in states]
