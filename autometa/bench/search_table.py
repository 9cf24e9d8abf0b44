"""The comparison of searches as Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autometa.bench.regret import MARKS
from autometa.report.frames import write_csv
from autometa.search.folder import write_atomically

COLUMNS = (
    "table",
    "method",
    *(f"regret at {mark}" for mark in MARKS),
    "trials' worth of random's 500",
    "trials begun",
    "ms a trial",
)

Row = dict[str, Any]


def cells(row: Row) -> tuple[str, ...]:
    """A line of the table."""
    regrets = (f"{row[f'regret_{mark}']:.1f} ± {row[f'ci95_{mark}']:.1f}" for mark in MARKS)
    worth = f"{_worth(row['matches'])} ({_worth(row['low'])} to {_worth(row['high'])})"
    trials, spent = f"{row['trials']:.0f}", f"{row['ms_per_trial']:.0f}"
    return row["table"], row["method"], *regrets, worth, trials, spent


def _worth(value: float) -> str:
    return "never" if math.isinf(value) else f"{value:.0f}"


def markdown(rows: Sequence[Row]) -> str:
    """The whole table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *(cells(row) for row in rows)]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def write_tables(folder: Path, rows: Sequence[Row]) -> None:
    """``search.md`` and ``search.csv``."""
    write_atomically(folder / "search.md", markdown(rows))
    write_csv(pd.DataFrame(rows), folder / "search.csv")
