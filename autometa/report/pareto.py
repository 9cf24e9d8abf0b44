"""The front of a search with several objectives: a figure and a table."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from autometa.report.plots import BLUE, GREY, VERMILION, Plot, style
from autometa.report.text import NOTHING, score_text
from autometa.search.front import front, value_of
from autometa.search.study import MAXIMIZE, objectives_of, rows_of, score_direction

if TYPE_CHECKING:
    import optuna

UNITS = {
    "adaptation": "adaptation, ms a task",
    "memory": "memory to adapt, bytes",
    "ece": "calibration error (ECE)",
}
MOST_AXES = 3
EYE = {"x": 1.6, "y": 1.6, "z": 1.2}  # from where the titles of three axes are within the figure


def front_plot(study: optuna.Study) -> Plot:
    """Complete trials by two or three objectives, the front apart from the rest."""
    from optuna import visualization
    from optuna.trial import TrialState

    name, title, objectives = "front", "Pareto front", objectives_of(study)
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if not complete:
        return Plot(name, title, None, "No trial is complete yet.")
    if len(objectives) > MOST_AXES:
        return Plot(name, title, None, f"See the table: {len(objectives)} objectives are too many.")
    labels = [UNITS.get(each, each) for each in objectives]
    figure = visualization.plot_pareto_front(study, target_names=labels)
    names = {row.number: row.name for row in rows_of(study)}
    for trace, told, colour in zip(figure.data, *_traces(len(figure.data)), strict=True):
        trace.update(name=told, marker={"color": colour, "size": 9 if told == "front" else 6})
        trace.marker.colorbar, trace.marker.showscale = None, False
        trace.text = [names[_number(text)] for text in trace.text]
    style(figure, title, "", "")
    figure.update_layout(showlegend=True)
    if len(objectives) == 2:
        _axes(figure, labels, score_direction(study))
    figure.update_scenes(camera={"eye": EYE, "center": {"z": -0.15}})
    best = [row.name for row in front(study)]
    alt = (
        f"{len(best)} of {len(complete)} complete trials are on the front of "
        f"{' and '.join(objectives)}: {', '.join(best)}."
    )
    note = "No other trial is better in one of these and as good in the rest; the search's scores."
    return Plot(name, title, figure, alt, note)


def _number(hover: str) -> int:
    """The trial's number in Optuna's text of a point, which goes on with all its attributes."""
    found = re.search(r'"number": (\d+)', hover)
    assert found is not None
    return int(found[1])


def _traces(count: int) -> tuple[list[str], list[str]]:
    """Optuna draws the dominated trials first."""
    return ["dominated", "front"][-count:], [GREY, VERMILION if count > 1 else BLUE][-count:]


def _axes(figure: Any, labels: list[str], direction: str) -> None:
    """The score is the first objective, on the x axis."""
    figure.update_xaxes(title={"text": f"meta-validation {labels[0]}"})
    figure.update_yaxes(title={"text": labels[1]})
    if direction == MAXIMIZE:
        figure.update_xaxes(tickformat=".0%")


def front_table(study: optuna.Study, result: dict[str, Any] | None) -> dict[str, Any] | None:
    """Columns and rows of the front; None where there is one objective."""
    objectives, direction = objectives_of(study), score_direction(study)
    if not objectives:
        return None
    rescored = {e["name"]: e["rescored"] for e in result["finalists"]} if result else {}
    rows = []
    for row in front(study):
        known = rescored.get(row.name)
        again = score_text(known["mean"], known["ci95"], direction) if known else NOTHING
        cells = [objective_text(each, value_of(row, each), direction) for each in objectives]
        rows.append({"name": row.name, "cells": cells, "rescored": again})
    return {"columns": [UNITS.get(each, each) for each in objectives], "rows": rows}


def objective_text(objective: str, value: float, direction: str) -> str:
    """A value in the unit of its objective."""
    if objective in ("accuracy", "mse"):
        return score_text(value, None, direction)
    return f"{value:,.0f}" if objective in ("parameters", "macs") else f"{value:.3g}"
