"""What a comparison of searches comes to: regrets, and the budget to match chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
MARKS = (10, 20, 40, 60)
RESAMPLES = 2000

Row = dict[str, Any]


def summarised(
    found: dict[str, Any], folders: Sequence[Path], methods: Sequence[str], chance: str
) -> list[Row]:
    """One row for each table and method: regret at the marks, and the budget to match chance.

    Regrets are in points; the optimum is the best score of any search on the table. ``matches`` is
    how many full trials a method spends until its mean regret is what random search's is at its
    end; an interval is the central 95 % of resampled seeds.
    """
    rows = []
    for folder in folders:
        scores = {name: _scores(found[f"{folder.name} | {name}"]) for name in methods}
        optimum = max(each.max() for each in scores.values())
        regrets = {name: 100 * (optimum - each) for name, each in scores.items()}
        for name in methods:
            runs = found[f"{folder.name} | {name}"]["runs"]
            row: Row = {"table": folder.name, "method": name, "seeds": len(runs)}
            for mark in MARKS:
                row[f"regret_{mark}"], row[f"ci95_{mark}"] = _mean(regrets[name][:, mark - 1])
            row |= dict(
                zip(("matches", "low", "high"), matches(regrets, name, chance), strict=True)
            )
            row["trials"] = float(np.mean([run["trials"] for run in runs]))
            row["ms_per_trial"] = float(np.mean([run["ms_per_trial"] for run in runs]))
            rows.append(row)
    return rows


def _scores(entry: dict[str, Any]) -> Array:
    return np.array([run["scores"] for run in entry["runs"]])


def _mean(values: Array) -> tuple[float, float]:
    """Mean and half of its 95 % interval over seeds."""
    return float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))


def matches(regrets: dict[str, Array], name: str, chance: str) -> tuple[float, float, float]:
    """Full trials until the mean regret is random search's at its end, and the interval's ends.

    Infinite where it never is.
    """
    runs, reference = regrets[name], regrets[chance][:, -1]
    random = np.random.default_rng(0)
    resampled = [
        first_below(
            runs[random.integers(len(runs), size=len(runs))].mean(0),
            float(reference[random.integers(len(reference), size=len(reference))].mean()),
        )
        for _ in range(RESAMPLES)
    ]
    low, high = np.quantile(resampled, (0.025, 0.975), method="nearest")
    return first_below(runs.mean(0), float(reference.mean())), float(low), float(high)


def first_below(course: Array, level: float) -> float:
    """The first place, from 1, at which a course is at or below a level; infinite if none is."""
    below = np.flatnonzero(course <= level + 1e-12)
    return float(below[0] + 1) if len(below) else math.inf
