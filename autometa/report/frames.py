"""A study as tidy pandas frames, and these as CSV and Parquet."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import optuna
import pandas as pd

from autometa.report.importances import TooAlikeError, ped_anova
from autometa.search.folder import write_atomically, write_bytes_atomically
from autometa.search.front import front, value_of
from autometa.search.study import (
    TrialRow,
    best_first,
    objectives_of,
    rows_of,
    score_direction,
)

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

    Parameters come in the order of their names, and among them the rates themselves of vectors that
    were proposed in other numbers (``inner_lr[0][2]``: of the first inner step and the third column
    of the vector, or of all steps and columns where there is no other); one that a trial didn't
    have is missing there.
    ``latency_ms`` is a column only where the study limits it, ``adaptation`` (ms a task),
    ``memory`` (bytes) and ``ece`` where they are objectives, ``validation_tasks`` (of the last
    scoring) and ``meta_iterations`` (of the full budget) where they differ between trials.
    """
    rows = list(rows)
    timed = any(row.candidate.get(LATENCY) is not None for row in rows)
    sizes = [*SIZES, LATENCY] if timed else SIZES
    measured = [name for name in MEASURED if any(name in row.measures for row in rows)]
    fixed = [*OWN_FIELDS, *sizes, *measured]
    numbers = [row.params | dict(_rates(row)) for row in rows]
    sampled = sorted({name for each in numbers for name in each} - set(fixed))
    return pd.DataFrame(
        [
            {name: getattr(row, name) for name in OWN_FIELDS}
            | {name: row.candidate.get(name) for name in sizes}
            | {name: row.measures.get(name) for name in measured}
            | {name: own.get(name) for name in sampled}
            for row, own in zip(rows, numbers, strict=True)
        ],
        columns=[*fixed, *sampled],
    )


def _rates(row: TrialRow) -> Iterator[tuple[str, float]]:
    """The entries of a candidate's rate vectors."""
    for name, value in row.candidate.get("hyper", {}).items():
        if isinstance(value, Mapping) and "values" in value:
            for step, rates in enumerate(value["values"]):
                yield from ((f"{name}[{step}][{i}]", rate) for i, rate in enumerate(rates))


def curves_frame(rows: Iterable[TrialRow]) -> pd.DataFrame:
    """One row a scoring of a trial on meta-validation tasks."""
    points = [
        (row.number, row.name, iteration, score)
        for row in rows
        for iteration, score in row.curve.items()
    ]
    return pd.DataFrame(points, columns=list(CURVE))


def importances_frame(study: optuna.Study) -> pd.DataFrame:
    """How much of the score each parameter explains, by PED-ANOVA, in [0, 1], largest first.

    Empty as long as there are too few complete trials, or while all score the same.
    """
    try:
        found = ped_anova(study)
    except TooAlikeError:
        found = {}
    return pd.DataFrame(list(found.items()), columns=["parameter", "importance"])


def pareto_frame(study: optuna.Study) -> pd.DataFrame:
    """The trials that no other beats in all objectives, best score first.

    Columns: ``number``, ``name``, ``learner``, ``backbone``, ``score``, then other objectives.
    """
    objectives = objectives_of(study)[1:]
    rows = front(study) if objectives else best_first(rows_of(study), score_direction(study))[:1]
    named = ("number", "name", "learner", "backbone", "score")
    return pd.DataFrame(
        [
            {name: getattr(row, name) for name in named}
            | {name: value_of(row, name) for name in objectives}
            for row in rows
        ],
        columns=[*named, *objectives],
    )


def write_csv(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as CSV, whole or not at all."""
    write_atomically(path, frame.to_csv(index=False))


def write_parquet(frame: pd.DataFrame, path: Path) -> None:
    """Write a frame as Parquet, whole or not at all; columns of several types become text."""
    plain = frame.copy()
    for name in plain.columns:
        known = plain[name].dropna()
        if plain[name].dtype == object and len({type(value) for value in known}) > 1:
            plain[name] = plain[name].map(str, na_action="ignore")
    write_bytes_atomically(path, plain.to_parquet(index=False))
