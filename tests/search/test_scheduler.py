"""ASHA after a resume decides as it would have decided without one."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from autometa.search.tuner import ResumableASHA

CURVES = {  # of errors, as a search of regression minimises them
    "a": {50: 5.0, 100: 4.0, 150: 3.5, 200: 3.0, 250: 2.5},
    "b": {50: 5.0, 100: 4.5},
    "c": {50: 4.9, 100: 3.9, 150: 3.8, 200: 3.7},
}


def asha(earlier: dict[str, dict[int, float]]) -> ResumableASHA:
    scheduler = ResumableASHA(
        earlier,
        time_attr="iteration",
        max_t=400,
        grace_period=100,
        reduction_factor=2,
        stop_last_trials=False,
    )
    scheduler.set_search_properties("score", "min")
    return scheduler


def decisions(
    scheduler: ResumableASHA, name: str, trial_id: str, curve: dict[int, float]
) -> list[str]:
    trial: Any = SimpleNamespace(trial_id=trial_id, config={"name": name})
    scheduler.on_trial_add(None, trial)
    results = ({"iteration": at, "score": score} for at, score in curve.items())
    return [scheduler.on_trial_result(None, trial, result) for result in results]


@pytest.mark.parametrize("reports", [1, 2, 3])
def test_a_resumed_trial_is_cut_where_it_would_have_been(reports: int) -> None:
    """Killed after some of its reports; the next process repeats the last one and goes on."""
    whole = asha({})
    for name in ("a", "b"):
        decisions(whole, name, name, CURVES[name])
    expected = decisions(whole, "c", "c", CURVES["c"])
    assert expected == ["CONTINUE", "CONTINUE", "CONTINUE", "STOP"]

    points = list(CURVES["c"].items())
    resumed = asha({"c": dict(points[:reports])})
    for name in ("a", "b"):
        decisions(resumed, name, name, CURVES[name])
    again = decisions(resumed, "c", "another id", dict(points[reports - 1 :]))
    assert again == expected[reports - 1 :]


def test_a_cut_that_was_decided_but_not_made_is_made() -> None:
    resumed = asha({"c": CURVES["c"]})
    for name in ("a", "b"):
        decisions(resumed, name, name, CURVES[name])
    assert decisions(resumed, "c", "another id", {200: 3.7}) == ["STOP"]
