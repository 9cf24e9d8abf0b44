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
KINDS = ("cold", "warm", "misled")
COLUMNS = ("earlier", "new", "a cold search's end", *KINDS, "warm at half", "misled at 110 %")
ALL = "all"
HALF, TENTH_MORE = 0.5, 1.1
"""Shares of a cold search's trials after which a warm and a misled one should be as good."""

Array = NDArray[np.float64]
Row = dict[str, Any]
Scores = Mapping[str, Sequence[Sequence[float]]]
Courses = dict[str, Array]


def summarised(found: Scores, trials: int) -> list[Row]:
    """One row for each start on each table, then one for all of them, whose courses are averaged.

    ``cold``, ``warm`` and ``misled`` are how many trials it takes until the mean over seeds is what
    the earlier cold searches come to after ``trials``, with the central 95 % of resampled seeds:
    infinite where it isn't reached. ``half`` and ``more`` are what warm searches after half of the
    trials, and misled ones after a tenth more, have before cold searches of the same seeds after
    all of them, with half of the 95 % interval.
    """
    pairs = [key.split(" | ")[1:] for key in found if key.startswith("warm")]
    starts = [_courses(found, *pair) for pair in pairs]
    rows: list[Row] = [
        {"earlier": source, "new": target} | _row(courses, trials)
        for (source, target), courses in zip(pairs, starts, strict=True)
    ]
    together = {kind: np.mean([each[kind] for each in starts], axis=0) for kind in starts[0]}
    return [*rows, {"earlier": ALL, "new": ""} | _row(together, trials)]


def _courses(found: Scores, source: str, target: str) -> Courses:
    """The courses [seeds, trials] of each kind, and of the searches that set the level."""
    keys = {
        "level": f"earlier | {target}",
        "cold": f"cold | {target}",
        "warm": f"warm | {source} | {target}",
        "misled": f"misled | {source} | {target}",
    }
    return {kind: np.array(found[key]) for kind, key in keys.items()}


def _row(courses: Courses, trials: int) -> Row:
    generator = np.random.default_rng(0)
    level, cold = (courses[kind][:, trials - 1] for kind in ("level", "cold"))
    seeds = len(level)
    draws = [generator.integers(seeds, size=seeds) for _ in range(RESAMPLES)]
    resampled = [_reached(courses, level, draw) for draw in draws]
    ends = np.quantile(resampled, (0.025, 0.975), axis=0, method="nearest").tolist()
    counts = zip(_reached(courses, level, np.arange(seeds)), *ends, strict=True)
    after = {"half": ("warm", HALF), "more": ("misled", TENTH_MORE)}
    return {
        "score": _mean(level),
        **dict(zip(KINDS, map(list, counts), strict=True)),
        **{
            name: _mean(courses[kind][:, round(share * trials) - 1] - cold)
            for name, (kind, share) in after.items()
        },
    }


def _reached(courses: Courses, level: Array, draw: NDArray[np.int64]) -> list[float]:
    """Trials that searches of each kind take to the level, by the means of the drawn seeds."""
    goal = float(level[draw].mean())
    return [first_below(-courses[kind][draw].mean(0), -goal) for kind in KINDS]


def _mean(values: Array) -> list[float]:
    """Mean and half of its 95 % interval over seeds."""
    return [float(values.mean()), float(1.96 * values.std(ddof=1) / math.sqrt(len(values)))]


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table; differences in points."""
    counts = (_count(*row[kind]) for kind in KINDS)
    points = (f"{100 * row[name][0]:+.1f} ± {100 * row[name][1]:.1f}" for name in ("half", "more"))
    return row["earlier"], row["new"], percent(*row["score"]), *counts, *points


def _count(value: float, low: float, high: float) -> str:
    return f"{_trials(value)} ({_trials(low)} to {_trials(high)})"


def _trials(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def markdown(rows: Iterable[Row]) -> str:
    """The whole table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
