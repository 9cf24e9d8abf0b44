"""How far an earlier study is trusted: predictions, their order, what is compared."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from random import Random
from typing import Any

import optuna
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from scipy.stats import kendalltau

from autometa.search.agreement import EXPECTED, RECENT, Judge, distance, predicted, trust
from autometa.search.earlier import EarlierStudy, EarlierTrial

RATE = FloatDistribution(1e-4, 1.0, log=True)
EARLIER = EarlierStudy("e", tuple(EarlierTrial(n / 20, {"x": n / 20}) for n in range(21)))
"""The larger x the better."""


def trial(
    x: float, curve: Mapping[int, float], state: TrialState = TrialState.COMPLETE
) -> FrozenTrial:
    return optuna.trial.create_trial(
        state=state,
        params={"x": x},
        distributions={"x": FloatDistribution(0.0, 1.0)},
        intermediate_values=dict(curve),
        value=next(reversed(curve.values())) if state == TrialState.COMPLETE else None,
    )


def trusted(
    trials: Sequence[FrozenTrial], direction: StudyDirection = StudyDirection.MAXIMIZE
) -> float:
    return Judge(EARLIER).trust(trials, direction)


def test_distances_are_means_over_a_trial_s_parameters() -> None:
    domains = {
        "rate": RATE,
        "net": CategoricalDistribution(["flat", "deep"]),
        "depth": IntDistribution(1, 5),
        "only": IntDistribution(3, 3),
    }
    params: dict[str, Any] = {"rate": 0.01, "net": "deep", "depth": 2, "only": 3}
    here = optuna.trial.create_trial(params=params, distributions=domains, value=0.0)
    assert distance(here, params) == 0
    assert distance(here, params | {"rate": 1.0, "else": 7}) == pytest.approx(0.5 / 4)
    assert distance(here, params | {"net": "flat", "depth": 4}) == pytest.approx(1.5 / 4)
    assert distance(here, params | {"net": "other"}) == pytest.approx(1 / 4), "no choice here"
    assert distance(here, {"rate": 0.01}) == pytest.approx(3 / 4), "what is lacking is far"


def test_the_nearest_earlier_trials_predict_a_rank() -> None:
    assert predicted(EARLIER.trials, trial(0.5, {9: 0.1})) == pytest.approx(0.5)
    assert predicted(EARLIER.trials, trial(1.0, {9: 0.1})) == pytest.approx(0.9), "0.8 to 1"


def test_trust_follows_kendall_s_tau() -> None:
    """The normal posterior's mean: what was expected and what is seen, weighed by precision."""
    random = Random(0)
    judged = [(random.random(), {9: random.random()}) for _ in range(12)]
    judged = [(rank, {9: curve[9] + rank}) for rank, curve in judged]
    tau = kendalltau([rank for rank, _ in judged], [curve[9] for _, curve in judged]).statistic
    seen, prior = 9 * 12 * 11 / (2 * (2 * 12 + 5)), 1 / EXPECTED.variance
    assert trust(judged) == pytest.approx((EXPECTED.mean * prior + tau * seen) / (prior + seen))


def test_trust_comes_slower_than_distrust() -> None:
    course = [0.1, 0.9, 0.4, 0.7]
    good, bad = (
        [trusted([trial(x, {9: sign * x}) for x in course[:n]]) for n in range(5)]
        for sign in (1, -1)
    )
    assert good[:2] == bad[:2] == [EXPECTED.mean] * 2, "one trial says nothing"
    assert good == sorted(good)
    assert good[4] < 1
    assert bad == sorted(bad, reverse=True)
    assert bad[3] == 0, "three trials are enough, whoever proposed them"
    least = [trial(x, {9: -x}) for x in course]
    assert trusted(least, StudyDirection.MINIMIZE) == good[4]


def test_trials_are_compared_where_both_were_scored_last() -> None:
    done = trial(0.5, {9: 0.2, 18: 0.9})
    ahead = trial(0.9, {9: 0.3}, TrialState.RUNNING)
    behind = trial(0.9, {9: 0.1}, TrialState.PRUNED)
    assert trusted([done, ahead]) > EXPECTED.mean > trusted([done, behind])
    assert trusted([done, trial(0.9, {9: 0.1}, TrialState.FAIL)]) == EXPECTED.mean
    diverged = trial(0.1, {9: math.nan}, TrialState.PRUNED)
    assert trusted([done, diverged]) == trusted([done, ahead]), "the worst, as predicted"


def test_the_last_trials_decide() -> None:
    wrong = [trial(n / 50, {9: -n}) for n in range(10)]
    right = [trial(n / 50, {9: n}) for n in range(RECENT)]
    assert trusted([*wrong, *right]) == trusted(right) > 0.8
