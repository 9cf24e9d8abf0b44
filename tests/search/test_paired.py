"""Differences and means over seeds and tasks, against scipy's t-tests, loops and simulations."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from autometa.search.paired import average, between_seeds, difference, weighted

Scores = NDArray[np.float64]
TASKS = 60


def test_one_seed_each_is_the_paired_t_test() -> None:
    random = np.random.default_rng(0)
    hard = random.normal(0, 1, 40)
    ours, theirs = (hard + random.normal(mean, 0.3, 40) for mean in (0.1, 0.0))
    found = difference(ours[None], theirs[None])
    test = stats.ttest_rel(ours, theirs, alternative="greater")
    interval = stats.ttest_rel(ours, theirs).confidence_interval(0.95)
    assert found.positive == pytest.approx(1 - test.pvalue)
    assert found.mean - found.ci95 == pytest.approx(interval.low)
    assert found.mean + found.ci95 == pytest.approx(interval.high)


def test_seeds_whose_tasks_are_all_alike_are_welchs_t_test() -> None:
    ours, theirs = np.array([0.71, 0.74, 0.70]), np.array([0.66, 0.73])
    found = difference(np.repeat(ours[:, None], 9, 1), np.repeat(theirs[:, None], 9, 1))
    test = stats.ttest_ind(ours, theirs, equal_var=False, alternative="greater")
    assert found.positive == pytest.approx(1 - test.pvalue)
    assert found.freedom == pytest.approx(test.df)


def test_seeds_variance_is_that_of_a_two_way_analysis_of_variance() -> None:
    scores = np.random.default_rng(1).normal(0, 1, (4, 7)) + np.arange(4)[:, None]
    seeds, tasks = scores.shape
    by_seed, by_task, whole = scores.mean(1), scores.mean(0), scores.mean()
    of_seeds = sum(tasks * (mean - whole) ** 2 for mean in by_seed) / (seeds - 1)
    rest = 0.0
    for s, t in product(range(seeds), range(tasks)):
        rest += (scores[s, t] - by_seed[s] - by_task[t] + whole) ** 2
    rest /= (seeds - 1) * (tasks - 1)
    assert between_seeds(scores) == pytest.approx((of_seeds - rest) / tasks)


def test_seeds_that_differ_less_than_their_noise_have_no_variance() -> None:
    scores = np.array([[0.0, 1.0, 0.0, 1.0], [1.0, 0.0, 1.0, 0.0]])
    assert between_seeds(scores) == 0.0


def test_tasks_that_only_one_has_are_left_out() -> None:
    random = np.random.default_rng(2)
    long, short = random.random((2, 30)), random.random((3, 20))
    assert difference(long, short) == difference(long[:, :20], short)
    assert average([long, short]).mean == pytest.approx((long[:, :20].mean() + short.mean()) / 2)


@pytest.mark.parametrize("tasks", [(4, 5), (1, 1)])
def test_tasks_that_cannot_be_paired_are_refused(tasks: tuple[int, int]) -> None:
    with pytest.raises(ValueError, match="must be one number from 2 on"):
        weighted([(1.0, np.zeros((2, tasks[0]))), (-1.0, np.zeros((2, tasks[1])))])


@pytest.mark.parametrize(("shift", "sure"), [(0.0, 0.5), (0.1, 1.0), (-0.1, 0.0)])
def test_scores_without_any_noise_are_certain(shift: float, sure: float) -> None:
    found = difference(np.full((2, 5), shift), np.zeros((2, 5)))
    assert (found.positive, found.ci95) == (sure, 0.0)


def draw(
    random: np.random.Generator, worth: list[float], seeds: int, of_seed: float = 0.01
) -> list[Scores]:
    """Scores of configurations under the model, on 60 tasks that they share."""
    hard = random.normal(0, 0.1, TASKS)
    return [
        mean
        + hard
        + random.normal(0, 0.03, TASKS)
        + random.normal(0, of_seed, (seeds, 1))
        + random.normal(0, 0.06, (seeds, TASKS))
        for mean in worth
    ]


@pytest.mark.parametrize(
    ("seeds", "of_seed", "off"), [(1, 0.0, 0.04), (2, 0.01, 0.08), (5, 0.01, 0.04)]
)
def test_probabilities_are_calibrated(seeds: int, of_seed: float, off: float) -> None:
    """Of choices that are right with a probability of 80 %, 80 % are, the worth being random.

    Two seeds show their variance badly, so that medium probabilities are on the safe side.
    """
    random = np.random.default_rng(seeds)
    told, right, inside = list[float](), list[bool](), list[bool]()
    for _ in range(6000):
        true = random.uniform(-0.06, 0.06)
        estimate = difference(*draw(random, [true, 0.0], seeds, of_seed))
        told.append(max(estimate.positive, 1 - estimate.positive))
        right.append((true > 0) == (estimate.mean > 0))
        inside.append(abs(estimate.mean - true) <= estimate.ci95)
    assert 0.92 <= np.mean(inside) <= 0.98
    sure, hits = np.array(told), np.array(right)
    for low, high in ((0.5, 0.7), (0.7, 0.9), (0.9, 0.99), (0.99, 1.01)):
        here = (low <= sure) & (sure < high)
        assert here.sum() > 400
        assert hits[here].mean() == pytest.approx(sure[here].mean(), abs=off), (low, high)


def test_an_intervals_width_is_that_of_the_estimates_spread() -> None:
    """Standard errors, squared and averaged, are the variance of the estimate."""
    random = np.random.default_rng(7)
    found = [weighted([(1.0, draw(random, [0.5], 3)[0])]) for _ in range(4000)]
    spread = np.var([each.mean for each in found])
    assert np.mean([each.error**2 for each in found]) == pytest.approx(spread, rel=0.1)
    by_hand = 0.1**2 / 60 + 0.03**2 / 60 + 0.01**2 / 3 + 0.06**2 / 180
    assert spread == pytest.approx(by_hand, rel=0.1)
    assert math.isfinite(found[0].freedom)
