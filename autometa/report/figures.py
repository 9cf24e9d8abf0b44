"""All figures of a search, in the order in which the report shows them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from autometa.report.costs import Cost, costs_plot
from autometa.report.importance_plot import importances
from autometa.report.parallel import parallel
from autometa.report.pareto import front_plot
from autometa.report.plots import Plot, history, learning_curves, scores_by_learner
from autometa.search.study import TrialRow, objectives_of, score_direction

if TYPE_CHECKING:
    import optuna


def figures(
    study: optuna.Study, rows: list[TrialRow], costs: list[Cost], best: str | None, role: str
) -> list[Plot]:
    """The figures of a study.

    Args:
        best: Names the trial to highlight.
        role: What to call it.
    """
    direction = score_direction(study)
    return [
        *([front_plot(study)] if objectives_of(study) else []),
        history(study, rows),
        learning_curves(rows, direction, best, role),
        scores_by_learner(rows, direction),
        parallel(study, rows),
        importances(study),
        costs_plot(costs),
    ]
