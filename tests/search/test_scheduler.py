"""Every scheduler, after a resume, decides as it would have decided without one."""

from __future__ import annotations

import math
import statistics
import warnings
from collections import Counter
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray.tune.schedulers.async_hyperband import _Bracket

from autometa.config import StudyConfig, parse_config
from autometa.search.rungs import SortedBracket, percentile
from autometa.search.schedulers import NOBODY, Stand, make_scheduler
from autometa.search.study import PRUNED, RUNNING, TrialRow

Curve = dict[int, float]
CURVES: dict[str, Curve] = {  # of errors, as a search of regression minimises them
    "a": {50: 5.0, 100: 4.0, 150: 3.5, 200: 3.0, 250: 2.5},
    "b": {50: 5.0, 100: 4.5},
    "d": {50: 4.5, 100: 4.0, 150: 3.6, 200: 3.5},
    "e": {50: 4.0, 100: 3.8, 150: 3.2, 200: 2.9},
    "c": {50: 4.9, 100: 3.9, 150: 3.8, 200: 3.7},
}
OTHERS = ("a", "b", "d", "e")
NAMES = ("asha", "hyperband", "median", "pbt")


def config(name: str) -> StudyConfig:
    scheduler = {"name": name, "grace": 100, "reduction_factor": 2}
    return parse_config({"scheduler": scheduler, "budget": {"iterations": 400}})


def row(name: str, curve: Curve, end: str) -> TrialRow:
    return TrialRow(0, name, end, "", None, None, max(curve), 0.0, {}, {}, curve)


def decisions(scheduler: Any, trial: Stand, curve: Curve) -> list[str]:
    results = ({"iteration": at, "score": score} for at, score in curve.items())
    return [scheduler.on_trial_result(NOBODY, trial, result) for result in results]


def cut_at(scheduler: Any, name: str, curve: Curve) -> list[str]:
    trial = Stand(name)
    scheduler.on_trial_add(NOBODY, trial)
    return decisions(scheduler, trial, curve)


@pytest.mark.parametrize("reports", [1, 2, 3])
@pytest.mark.parametrize("name", NAMES)
def test_a_resumed_trial_is_cut_where_it_would_have_been(name: str, reports: int) -> None:
    """Killed after some of its reports; the next process repeats the last one and goes on."""
    whole = make_scheduler(config(name), [], "minimize")
    for other in OTHERS:
        cut_at(whole, other, CURVES[other])
    expected = cut_at(whole, "c", CURVES["c"])
    assert "STOP" in expected or name == "hyperband"

    points = list(CURVES["c"].items())
    ended = [row(other, CURVES[other], PRUNED) for other in OTHERS]
    rows = [*ended, row("c", dict(points[:reports]), RUNNING)]
    resumed = make_scheduler(config(name), rows, "minimize")
    again = cut_at(resumed, "c", dict(points[reports - 1 :]))
    assert again == expected[reports - 1 :]


@pytest.mark.parametrize("name", ["asha", "median"])
def test_a_cut_that_was_decided_but_not_made_is_made(name: str) -> None:
    ended = [row(other, CURVES[other], PRUNED) for other in OTHERS]
    rows = [*ended, row("c", CURVES["c"], RUNNING)]
    resumed = make_scheduler(config(name), rows, "minimize")
    assert cut_at(resumed, "c", {200: 3.7}) == ["STOP"]


@given(st.lists(st.lists(st.floats(0, 1), min_size=4, max_size=4), min_size=4, max_size=8))
def test_the_median_rule_is_the_papers(curves: list[list[float]]) -> None:
    """Vizier, section 3.2.2: the best so far against the median of the others' running means."""
    scheduler = make_scheduler(config("median"), [], "maximize")
    *others, last = [{100 * (i + 1): s for i, s in enumerate(curve)} for curve in curves]
    for number, curve in enumerate(others):
        trial = Stand(f"t{number}")
        scheduler.on_trial_add(NOBODY, trial)
        for at, score in curve.items():  # trained to the end, whatever the rule would say
            scheduler._results[trial].append({"iteration": at, "score": score})  # type: ignore[attr-defined]
    expected = []
    for at in last:
        means = [statistics.fmean(s for i, s in c.items() if i <= at) for c in others]
        best = max(score for i, score in last.items() if i <= at)
        expected.append("STOP" if best < statistics.median(means) else "CONTINUE")
        if expected[-1] == "STOP":
            break
    found = cut_at(scheduler, "last", last)[: len(expected)]
    assert found == expected


def test_hyperbands_brackets_share_the_budget_and_begin_to_cut_at_later_rungs() -> None:
    scheduler: Any = make_scheduler(config("hyperband"), [], "maximize")
    names = [f"protonet-conv-{number:03d}" for number in range(3000)]
    found = Counter(scheduler.bracket(name) for name in names)
    shares = [4 / 3, 2 / 2, 1 / 1]  # η^s / (s + 1) of η = 2 and rungs at 100, 200 and 400
    for bracket, share in enumerate(shares):
        assert found[bracket] / len(names) == pytest.approx(share / sum(shares), abs=0.03)
    first_cuts: Counter[tuple[int, int]] = Counter()
    for number, name in enumerate(names[:300]):
        falling = {at: -float(number) for at in (100, 200, 400)}
        ends = cut_at(scheduler, name, falling)
        if "STOP" in ends:
            first_cuts[scheduler.bracket(name), (100, 200, 400)[ends.index("STOP")]] += 1
    assert dict(list(first_cuts)) == {0: 100, 1: 200, 2: 400}


FINITE = st.floats(-1e6, 1e6)


@given(st.lists(FINITE, min_size=1, max_size=30), st.floats(0, 100))
def test_a_percentile_of_sorted_scores_is_numpys(scores: list[float], percent: float) -> None:
    assert percentile(sorted(scores), percent) == np.percentile(scores, percent)


@given(st.lists(FINITE | st.just(math.nan), max_size=30), st.sampled_from([2, 3, 4, 2.5]))
def test_sorted_rungs_cut_as_tunes_do(scores: list[float], factor: float) -> None:
    tunes: Any = _Bracket(1, 10, factor, 0)
    ours = SortedBracket(tunes)
    for number, score in enumerate(scores):
        trial: Any = Stand(str(number))
        for iteration in range(1, 12):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", RuntimeWarning)  # of rungs without numbers
                expected = tunes.on_result(trial, iteration, score)
            assert ours.on_result(trial, iteration, score) == expected
