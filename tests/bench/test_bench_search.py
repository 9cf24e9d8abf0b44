"""The comparison of searches: the command, its files, its figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from synthetic import write_table

from autometa.bench.regret import first_below, matches, summarised

Command = Callable[..., Any]


def entry(*courses: list[float]) -> dict[str, Any]:
    runs = [{"scores": each, "trials": 60, "ms_per_trial": 1.0} for each in courses]
    return {"told": {}, "runs": runs}


def test_regret_is_what_lacks_to_the_best_of_all_searches() -> None:
    found = {
        "t | good": entry([0.8] * 60, [0.9] * 60),
        "t | random": entry([0.5] * 59 + [0.7], [0.6] * 60),
    }
    good, random = summarised(found, [Path("t")], ["good", "random"], "random")
    assert good["regret_10"] == pytest.approx(5.0)
    assert good["ci95_10"] == pytest.approx(1.96 * np.std([0, 10], ddof=1) / math.sqrt(2))
    assert random["regret_40"] == pytest.approx(35.0)
    assert random["regret_60"] == pytest.approx(25.0)
    assert (good["matches"], random["matches"]) == (1, 60)
    assert good["seeds"] == 2


def test_the_budget_to_match_chance_has_the_interval_of_its_seeds() -> None:
    steps = np.arange(1, 101, dtype=float)
    # Twenty searches whose regret falls to that of chance, 10, between 30 and 50 full trials.
    runs = np.array([np.where(steps < each, 20.0, 0.0) for each in np.linspace(30, 50, 20)])
    regrets = {"it": runs, "random": np.full((20, 500), 10.0), "worse": runs + 11}
    found, low, high = matches(regrets, "it", "random")
    assert found == pytest.approx(40, abs=1)
    assert 33 < low < found < high < 47
    assert matches(regrets, "worse", "random") == (math.inf, math.inf, math.inf)


@pytest.mark.parametrize(("level", "place"), [(5.0, 1), (3.5, 3), (1.0, 4), (0.5, math.inf)])
def test_the_first_place_below_a_level(level: float, place: float) -> None:
    assert first_below(np.array([5.0, 4.0, 3.0, 1.0]), level) == place


def test_the_command_replays_and_keeps_what_it_has(
    tmp_path: Path, autometa: Callable[..., Any]
) -> None:
    table, out = write_table(tmp_path / "formula"), tmp_path / "out"
    arguments = ["bench", "search", str(table), "--seeds", "2", "--concurrency", "1"]
    arguments += ["--out", str(out), "--method", "evolution / asha"]
    first = autometa(*arguments)
    assert first.code == 0, first.err
    assert "formula | evolution / asha" in first.out
    frame = pd.read_csv(out / "search.csv")
    assert sorted(frame["method"]) == ["evolution / asha", "random"]
    assert (frame["regret_60"] <= frame["regret_10"]).all()
    assert frame["regret_60"].min() >= 0
    assert "evolution / asha" in (out / "search.md").read_text()
    surrogates = pd.read_csv(out / "surrogates.csv")
    assert list(surrogates["configurations"]) == [60]
    assert surrogates["rmse"].max() < 0.01, "it says how far off it is"
    assert "formula | 60" in (out / "surrogates.md").read_text()
    before = (out / "search.json.gz").read_bytes()
    again = autometa(*arguments)
    assert "formula | evolution / asha" not in again.out, "nothing is searched again"
    assert (out / "search.json.gz").read_bytes() == before


def test_mistakes_are_named(tmp_path: Path, autometa: Callable[..., Any]) -> None:
    table = write_table(tmp_path / "formula")
    wrong = autometa(
        "bench", "search", str(table), "--method", "evolutoin*", "--out", str(tmp_path)
    )
    assert wrong.code == 2
    assert "--method 'evolutoin*' fits none" in wrong.err
    none = autometa("bench", "search", str(tmp_path / "nowhere"), "--out", str(tmp_path))
    assert none.code == 2
    assert "has 0 recorded trials, but needs 40" in none.err
