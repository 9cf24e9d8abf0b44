"""The comparison of searches as Markdown and CSV."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from autometa.bench.regret import MARKS
from autometa.bench.tables import load_table
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


def markdown(columns: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A whole table."""
    return "".join(
        f"| {' | '.join(line)} |\n" for line in [columns, ["---"] * len(columns), *lines]
    )


def surrogate_rows(folders: Sequence[Path]) -> list[Row]:
    """How well each table's surrogate predicts final scores that it hasn't seen, and chance."""
    tables = [load_table(folder) for folder in folders]
    return [
        {"table": each.name, **each.surrogate.errors()["all"], "chance": each.surrogate.chance}
        for each in tables
    ]


SURROGATE = ("table", "configurations", "RMSE", "R²", "Kendall's τ", "SD over seeds")


def surrogate_cells(row: Row) -> tuple[str, ...]:
    """A line of the table of surrogates; errors in points."""
    rmse, chance = (f"{100 * row[key]:.1f}" for key in ("rmse", "chance"))
    fits = (f"{row['r2']:.2f}", f"{row['kendall_tau']:.2f}")
    return row["table"], str(row["configurations"]), rmse, *fits, chance


def write_tables(folder: Path, rows: Sequence[Row], surrogates: Sequence[Row]) -> None:
    """``search.md`` and ``search.csv``, ``surrogates.md`` and ``surrogates.csv``."""
    for name, columns, lines, values in (
        ("search", COLUMNS, [cells(row) for row in rows], rows),
        ("surrogates", SURROGATE, [surrogate_cells(row) for row in surrogates], surrogates),
    ):
        write_atomically(folder / f"{name}.md", markdown(columns, lines))
        write_csv(pd.DataFrame(values), folder / f"{name}.csv")
