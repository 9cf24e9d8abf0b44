"""The trials of a search with several objectives that no other one beats in all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import optuna

from autometa.search.study import (
    TrialRow,
    best_first,
    objectives_of,
    rows_of,
    score_direction,
)


def value_of(row: TrialRow, objective: str) -> float:
    """A complete trial's value of an objective (``accuracy`` and ``mse`` are the score).

    Raises:
        KeyError: It wasn't measured.
    """
    if objective in ("accuracy", "mse"):
        return float(row.score or 0.0)
    return row.measures[objective]


def front(study: optuna.Study) -> list[TrialRow]:
    """The non-dominated complete trials, best score first."""
    numbers = {trial.number for trial in study.best_trials}
    rows = [row for row in rows_of(study) if row.number in numbers]
    return best_first(rows, score_direction(study))


def candidates(study: optuna.Study) -> list[TrialRow]:
    """Complete trials in the order in which they would become finalists.

    With one objective the best comes first. With several: the front, first its best score, then by
    NSGA-II's crowding distance (its ends, then those that have the most room around them), and of
    equals the better score first.
    """
    objectives = objectives_of(study)
    if not objectives:
        return best_first(rows_of(study), score_direction(study))
    rows = front(study)
    distance = crowding(np.array([[value_of(row, each) for each in objectives] for row in rows]))
    order = sorted(range(len(rows)), key=lambda index: (index > 0, -distance[index], index))
    return [rows[index] for index in order]


def crowding(values: np.ndarray[Any, np.dtype[np.float64]]) -> list[float]:
    """Crowding distances of points, [points, objectives]; infinite at the ends of an objective.

    K. Deb, A. Pratap, S. Agarwal, T. Meyarivan, "A fast and elitist multiobjective genetic
    algorithm: NSGA-II", IEEE Transactions on Evolutionary Computation 6(2), 2002, section III-B.
    """
    distance = np.zeros(len(values))
    for column in values.T:
        order = np.argsort(column, kind="stable")
        span = column[order[-1]] - column[order[0]]
        distance[order[[0, -1]]] = np.inf
        if span > 0:
            distance[order[1:-1]] += (column[order[2:]] - column[order[:-2]]) / span
    return [float(each) for each in distance]


def described(study: optuna.Study, finalists: set[str]) -> list[dict[str, Any]] | None:
    """The front as ``result.json`` keeps it; None where there is one objective.

    The values are those of the search: what is a finalist was trained again, and rescored.
    """
    objectives = objectives_of(study)
    if not objectives:
        return None
    return [
        {
            "name": row.name,
            "values": {each: value_of(row, each) for each in objectives},
            "finalist": row.name in finalists,
        }
        for row in front(study)
    ]
