"""The trials of a study as tidy pandas frames, and as CSV."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from autometa.search.folder import write_atomically
from autometa.search.study import TrialRow

OWN_FIELDS = (
    "number",
    "name",
    "learner",
    "backbone",
    "end",
    "reason",
    "score",
    "ci95",
    "iteration",
    "seconds",
)
SIZES = ("parameters", "macs")
LATENCY = "latency_ms"
MEASURED = ("adaptation", "memory", "ece", "validation_tasks", "meta_iterations")
CURVE = ("number", "name", "iteration", "score")


def trials_frame(rows: Iterable[TrialRow]) -> pd.DataFrame:
    """One row a trial: what became of it, its network's size, then each sampled parameter.

    Parameters come in the order of their names; one that a trial didn't have is missing there.
    ``latency_ms`` is a column only where the study limits it, ``adaptation`` (ms a task),
    ``memory`` (bytes) and ``ece`` where they are objectives, ``validation_tasks`` (of the last
    scoring) and ``meta_iterations`` (of the full budget) where they differ between trials.
    """
    rows = list(rows)
    timed = any(row.candidate.get(LATENCY) is not None for row in rows)
    sizes = [*SIZES, LATENCY] if timed else SIZES
    measured = [name for name in MEASURED if any(name in row.measures for row in rows)]
    fixed = [*OWN_FIELDS, *sizes, *measured]
    sampled = sorted({name for row in rows for name in row.params} - set(fixed))
    return pd.DataFrame(
        [
            {name: getattr(row, name) for name in OWN_FIELDS}
            | {name: row.candidate.get(name) for name in sizes}
            | {name: row.measures.get(name) for name in measured}
            | {name: row.params.get(name) for name in sampled}
            for row in rows
        ],
        columns=[*fixed, *sampled],
    )


def curves_frame(rows: Iterable[TrialRow]) -> pd.DataFrame:
    """One row a scoring of a trial on meta-validation tasks."""
    points = [
        (row.number, row.name, iteration, score)
        for row in rows
        for iteration, score in row.curve.items()
    ]
    return pd.DataFrame(points, columns=list(CURVE))


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV, whole or not at all."""
    write_atomically(path, frame.to_csv(index=False))
