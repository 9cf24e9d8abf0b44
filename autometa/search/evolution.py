"""Regularised evolution as an Optuna sampler, for conditional spaces such as architectures.

E. Real, A. Aggarwal, Y. Huang, Q. V. Le: "Regularized Evolution for Image Classifier Architecture
Search", AAAI 2019, https://arxiv.org/abs/1802.01548, algorithm 1. Their search only mutates;
``crossover`` adds a second parent.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from random import Random
from typing import Any

from optuna import Study
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.search.independent import IndependentSampler
from autometa.search.study import curve_of

ATTEMPTS = 20
"""At a child that isn't there yet."""

Genes = dict[str, tuple[Any, BaseDistribution]]


class EvolutionSampler(IndependentSampler):
    """One proposal: a child of the best of a few, drawn among the youngest of those that ended.

    A child has its parents' values, but for one parameter, which is drawn anew; and for parameters
    that its parents don't have, because a mutated one switched them on. Those that it switched off
    nobody asks for, so a child is always a point of the space.

    Args:
        seed: Of everything that is drawn.
        population: How many trials live; when one ends, the oldest dies.
        tournament: Of how many a parent is the best.
        crossover: Chance of a second parent, which gives every other value on average.
        startup: Trials before the first child; the first are random.
    """

    def __init__(
        self,
        seed: int | None = None,
        *,
        population: int = 20,
        tournament: int = 5,
        crossover: float = 0.5,
        startup: int = 10,
    ) -> None:
        self._random, self._anew = Random(seed), RandomSampler(seed=seed)
        self._population, self._tournament = population, tournament
        self._crossover, self._startup = crossover, startup
        self._child: tuple[int, Genes] | None = None

    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The child's value, or a random one where its parents have none for this distribution."""
        if self._child is None or self._child[0] != trial.number:
            self._child = trial.number, self._breed(study)
        value, known = self._child[1].get(param_name, (None, None))
        if known == param_distribution:
            return value
        return self._anew.sample_independent(study, trial, param_name, param_distribution)

    def _breed(self, study: Study) -> Genes:
        """A child's inherited values; empty while there are too few trials."""
        ended = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        living = [trial for trial in ended if trial.params][-self._population :]
        if len(ended) < self._startup or not living:
            return {}
        known = [trial.params for trial in study.get_trials(deepcopy=False)]
        for _ in range(ATTEMPTS):
            child = self._offspring(living, study)
            if {name: value for name, (value, _) in child.items()} not in known:
                break
        return child

    def _offspring(self, living: Sequence[FrozenTrial], study: Study) -> Genes:
        child = self._genes(living, study)
        if self._random.random() < self._crossover:
            other = self._genes(living, study)
            child |= {name: gene for name, gene in other.items() if self._random.random() < 0.5}
        free = [name for name, (_, domain) in child.items() if not domain.single()]
        if free:
            self._mutate(child, self._random.choice(sorted(free)))
        return child

    def _genes(self, living: Sequence[FrozenTrial], study: Study) -> Genes:
        """Those of the best of a tournament."""
        some = self._random.sample(living, min(self._tournament, len(living)))
        best = max(some, key=lambda trial: fitness(trial, study.direction))
        return {name: (best.params[name], domain) for name, domain in best.distributions.items()}

    def _mutate(self, child: Genes, name: str) -> None:
        value, domain = child[name]
        if isinstance(domain, CategoricalDistribution):
            others = [option for option in domain.choices if option != value]
            child[name] = self._random.choice(others), domain
        else:
            del child[name]  # a number is drawn anew


def fitness(trial: FrozenTrial, direction: StudyDirection) -> tuple[float, float]:
    """How far a trial came before it was cut, then its score there, larger being better.

    The score is the first of several objectives.
    """
    curve = curve_of(trial)
    complete = trial.state == TrialState.COMPLETE
    last = max(curve, default=None)
    value = trial.values[0] if complete else curve[last] if last is not None else None
    if value is None or math.isnan(value):
        return -math.inf, 0.0
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    return math.inf if complete else float(last or 0), sign * value
