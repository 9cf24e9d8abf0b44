"""The table of the learners, as Markdown and CSV."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from autometa.report.frames import write_csv
from autometa.report.text import score_text
from autometa.search.folder import write_atomically
from autometa.search.study import MAXIMIZE

COLUMNS = (
    "learner",
    "score",
    "NLL",
    "ECE",
    "meta-iterations × tasks",
    "ms a meta-iteration",
    "ms a test task",
    "peak MiB",
    "meta-parameters",
)
SUMMARY = ("learner", "score", "NLL", "ECE", "ms a meta-iteration", "meta-parameters")
"""The columns that a terminal has room for."""


def cells(name: str, row: dict[str, Any], direction: str) -> tuple[str, ...]:
    """A learner's line of the table."""
    if "failed" in row:
        return (name, f"failed: {row['failed']}", *[""] * (len(COLUMNS) - 2))
    trained = row["parameters"] > 0
    return (
        name,
        score_text(row["score"], row["ci95"], direction),
        f"{row['loss']:.2f}" if direction == MAXIMIZE else "",
        f"{100 * row['ece']:.1f} %" if row["ece"] is not None else "",
        f"{row['iterations']:,} × {row['tasks_per_iteration']}" if trained else "none",
        f"{row['ms_per_iteration']:.0f}" if trained else "",
        f"{row['test_ms_per_task']:.1f}",
        f"{row['peak_mib']:.0f}",
        f"{row['parameters']:,}",
    )


def ordered(results: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """Rows from the best to the worst; failures last."""
    sign = -1 if results["direction"] == MAXIMIZE else 1

    def place(item: tuple[str, dict[str, Any]]) -> tuple[bool, float, str]:
        name, row = item
        return "failed" in row, sign * row.get("score", 0.0), name

    return sorted(results["rows"].items(), key=place)


def lines(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The cells of all rows, in order."""
    return [cells(name, row, results["direction"]) for name, row in ordered(results)]


def summary(results: dict[str, Any]) -> list[tuple[str, ...]]:
    """The same for :data:`SUMMARY`."""
    kept = [COLUMNS.index(column) for column in SUMMARY]
    return [tuple(line[place] for place in kept) for line in lines(results)]


def markdown(results: dict[str, Any]) -> str:
    """The whole table."""
    body = [(f"`{name}`", *rest) for name, *rest in lines(results)]
    rows = [COLUMNS, ["---"] * len(COLUMNS), *body]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def frame(results: dict[str, Any]) -> pd.DataFrame:
    """One row a learner, numbers as they are."""
    rows = [
        {"learner": name, **{k: v for k, v in row.items() if k != "spec"}}
        for name, row in ordered(results)
    ]
    return pd.DataFrame(rows)


def write_tables(folder: Path, results: dict[str, Any]) -> None:
    """``learners.md`` and ``learners.csv``."""
    write_atomically(folder / "learners.md", markdown(results))
    write_csv(frame(results), folder / "learners.csv")
