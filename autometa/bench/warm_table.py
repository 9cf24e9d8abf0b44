"""What a comparison of warm starts comes to: trials until a cold search's final score."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autometa.bench.regret import first_below
from autometa.report.text import percent

RESAMPLES = 2000
COLUMNS = ("earlier", "new", "a cold search's end", "cold", "warm", "misled")
ALL = "all"

Array = NDArray[np.float64]
Row = dict[str, Any]
Scores = Mapping[str, Sequence[Sequence[float]]]


def summarised(found: Scores, trials: int) -> list[Row]:
    """One row for each start on each table, then one for all of them.

    ``cold``, ``warm`` and ``misled`` are how many trials it takes until the mean over seeds is what
    cold searches come to after ``trials``; in the last row the means over them. Intervals are the
    central 95 % of resampled seeds. Infinite where the score isn't reached.
    """
    pairs = [key.split(" | ")[1:] for key in found if key.startswith("warm")]
    generator = np.random.default_rng(0)
    seeds = len(next(iter(found.values())))
    draws = [generator.integers(seeds, size=seeds) for _ in range(RESAMPLES)]
    resampled = np.array([[_reached(found, p, trials, draw) for p in pairs] for draw in draws])
    plain = np.array([_reached(found, pair, trials, np.arange(seeds)) for pair in pairs])
    rows = []
    for i, (source, target) in enumerate(pairs):
        final = np.array(found[f"cold | {target}"])[:, trials - 1]
        ci95 = 1.96 * final.std(ddof=1) / math.sqrt(seeds)
        row = {"earlier": source, "new": target, "score": float(final.mean()), "ci95": float(ci95)}
        rows.append(row | _intervals(plain[i], resampled[:, i]))
    return [*rows, {"earlier": ALL, "new": ""} | _intervals(plain.mean(0), resampled.mean(1))]


def _reached(found: Scores, pair: Sequence[str], trials: int, draw: Any) -> list[float]:
    """Trials that cold, warm and misled searches of the drawn seeds take."""
    source, target = pair
    keys = (f"cold | {target}", f"warm | {source} | {target}", f"misled | {source} | {target}")
    means = [np.array(found[key])[draw].mean(0) for key in keys]
    return [first_below(-mean, -means[0][trials - 1]) for mean in means]


def _intervals(values: Array, resampled: Array) -> Row:
    ends = np.quantile(resampled, (0.025, 0.975), axis=0, method="nearest")
    return {
        name: [float(values[i]), float(ends[0, i]), float(ends[1, i])]
        for i, name in enumerate(("cold", "warm", "misled"))
    }


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    score = percent(row["score"], row["ci95"]) if "score" in row else ""
    counts = (_count(*row[name]) for name in ("cold", "warm", "misled"))
    return row["earlier"], row["new"], score, *counts


def _count(value: float, low: float, high: float) -> str:
    return f"{_trials(value)} ({_trials(low)} to {_trials(high)})"


def _trials(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def markdown(rows: Iterable[Row]) -> str:
    """The whole table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
