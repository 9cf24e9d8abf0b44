"""Whether an earlier study orders a new study's trials as they turn out to be ordered.

An earlier study predicts the rank of any trial by those of its nearest trials. Where predictions
and scores disagree the study misleads, whoever proposed the trials: those that the new study
proposed by itself tell as much as those that were taken over. Feurer, Letham, Bakshy ("Scalable
Meta-Learning for Bayesian Optimization", https://arxiv.org/abs/1802.02219) weigh earlier studies by
the order of their predictions too, which needs no scale that tasks would have in common; their
models are Gaussian processes, whose weights come from resampled trials and compete with a model of
the new study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import combinations, islice
from statistics import NormalDist, fmean
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.search.earlier import EarlierStudy, EarlierTrial, fitting
from autometa.search.study import curve_of

NEAREST = 5
"""Earlier trials whose ranks predict another's."""
EXPECTED = NormalDist(0.5, 0.5)
"""Kendall's τ of an earlier study's predictions, before anything is known."""
RECENT = 20
"""Trials that are compared, those that came last: what counts is where the search is now."""

Curve = Mapping[int, float]


class Judge:
    """How far an earlier study can be trusted in a new one.

    Predictions are kept, as they depend on nothing but a trial's parameters.
    """

    def __init__(self, earlier: EarlierStudy) -> None:
        self._earlier = earlier.trials
        self._predicted: dict[frozenset[Any], float] = {}

    def trust(self, trials: Sequence[FrozenTrial], direction: StudyDirection) -> float:
        """From 0, where predictions and the study's trials disagree, to almost 1."""
        curves = ((trial, _curve(trial, direction)) for trial in reversed(trials))
        last = islice(((trial, curve) for trial, curve in curves if curve), RECENT)
        return trust([(self._rank(trial), curve) for trial, curve in last])

    def _rank(self, trial: FrozenTrial) -> float:
        key = frozenset(trial.params.items())
        if key not in self._predicted:
            self._predicted[key] = predicted(self._earlier, trial)
        return self._predicted[key]


def _curve(trial: FrozenTrial, direction: StudyDirection) -> Curve:
    """A trial's scores, larger being better; of one that failed there are none."""
    if trial.state == TrialState.FAIL:
        return {}
    sign = 1.0 if direction == StudyDirection.MAXIMIZE else -1.0
    found = curve_of(trial).items()
    return {step: -math.inf if math.isnan(score) else sign * score for step, score in found}


def predicted(earlier: Sequence[EarlierTrial], trial: FrozenTrial) -> float:
    """The mean rank of the nearest earlier trials."""
    nearest = sorted(earlier, key=lambda each: distance(trial, each.values))
    return fmean(each.rank for each in nearest[:NEAREST])


def distance(trial: FrozenTrial, values: Mapping[str, Any]) -> float:
    """The mean over a trial's parameters, each within its domain; 1 where values lack it.

    As Gower's ("A general coefficient of similarity", Biometrics 1971).
    """
    apart = [
        _apart(trial.params[name], values[name], domain) if name in values else 1.0
        for name, domain in trial.distributions.items()
    ]
    return fmean(apart) if apart else 0.0


def _apart(value: Any, other: Any, domain: BaseDistribution) -> float:
    found = fitting(other, domain)
    if not found:
        return 1.0
    if isinstance(domain, CategoricalDistribution) or domain.single():
        return float(value != found[0])
    bounds: Any = domain
    scale = math.log if bounds.log else float
    return abs(scale(value) - scale(found[0])) / (scale(bounds.high) - scale(bounds.low))


def trust(judged: Sequence[tuple[float, Curve]]) -> float:
    """Kendall's τ of predicted ranks and scores as far as it is known; 0 where it is negative.

    It is the mean of a normal posterior: :data:`EXPECTED` beforehand, and what is seen with the
    variance that τ has where there is no relation, 2 (2 n + 5) / 9 n (n − 1) for n trials. A τ
    below 1 leaves proposals to the study itself, so that comparison goes on.
    """
    tau, variance = _kendall(judged)
    prior, seen = 1 / EXPECTED.variance, 1 / variance
    return max(0.0, (EXPECTED.mean * prior + tau * seen) / (prior + seen))


def _kendall(judged: Sequence[tuple[float, Curve]]) -> tuple[float, float]:
    """Kendall's τ, and its variance without a relation: infinite where there is nothing to compare.

    Two trials are compared where both were scored last, so those that run or were cut count too.
    """
    signs = []
    for (rank, curve), (other_rank, other_curve) in combinations(judged, 2):
        common = curve.keys() & other_curve.keys()
        if common and rank != other_rank:
            last = max(common)
            signs.append(_sign(rank, other_rank) * _sign(curve[last], other_curve[last]))
    if not signs:
        return 0.0, math.inf
    # As many trials as have so many pairs, since not all pairs can be compared.
    count = (1 + math.sqrt(1 + 8 * len(signs))) / 2
    return fmean(signs), 2 * (2 * count + 5) / (9 * count * (count - 1))


def _sign(one: float, other: float) -> float:
    return float((one > other) - (one < other))
