"""Every figure tells of every trial it is for, and escapes what it shows in tooltips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autometa.report.plots import MARKS, Plot, importances, plots
from autometa.search.study import rows_of

EVIL = "<b>reason</b> & more"

Make = Callable[..., Any]


def plots_of(made: Any, best: str | None = None) -> dict[str, Plot]:
    return {plot.name: plot for plot in plots(made.study, rows_of(made.study), best, "winner")}


def traces(plot: Plot) -> dict[str, Any]:
    assert plot.figure is not None
    return {trace.name: trace for trace in plot.figure.data}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_history_has_every_scored_trial_and_the_best_so_far(
    make_study: Make, direction: str
) -> None:
    made = make_study(direction)
    for score in (0.5, 0.4, 0.6):
        made.trial("complete", [score])
    made.trial("pruned", [0.3])
    shown = traces(plots_of(made)["history"])
    assert list(shown["complete"].y) == [0.5, 0.4, 0.6]
    best = [0.5, 0.5, 0.6] if direction == "maximize" else [0.5, 0.4, 0.4]
    assert list(shown["best so far"].y)[:3] == best
    assert list(shown["cut early (its last score)"].x) == [3]


def test_curves_mark_how_a_trial_ended_and_which_won(make_study: Make) -> None:
    made = make_study()
    made.trial("complete", [0.4, 0.5, 0.6])
    made.trial("pruned", [0.3, 0.2])
    made.trial("diverged", [0.1, float("nan")])
    best = rows_of(made.study)[0].name
    plot = plots_of(made, best)["curves"]
    shown = traces(plot)
    assert list(shown[f"winner: {best}"].y) == [0.4, 0.5, 0.6]
    assert [(shown[n].x[0], shown[n].y[0]) for n in ("complete", "cut early")] == [
        (180, 0.6),
        (120, 0.2),
    ]
    assert {shown[n].marker.symbol for n in ("complete", "cut early", "diverged")} == set(
        MARKS.values()
    )
    assert plot.alt == "Learning curves of 3 trials: 1 complete, 1 cut early, 1 diverged."


def test_tooltips_are_escaped(make_study: Make) -> None:
    made = make_study()
    made.trial("pruned", [0.3], EVIL)
    for plot in plots_of(made).values():
        assert plot.figure is None or "<b>" not in plot.figure.to_json().replace("\\u003c", "<")
    assert "&lt;b&gt;reason" in str(plots_of(made)["curves"].figure)


def test_trials_that_all_score_the_same_have_no_importances(make_study: Make) -> None:
    made = make_study()
    for _ in range(5):
        made.trial("complete", [0.5])
    plot = importances(made.study)
    assert plot.figure is None
    assert plot.alt == "The scores are too alike to tell what made the difference."


def test_figures_without_data_say_why(make_study: Make) -> None:
    for plot in plots_of(make_study()).values():
        assert plot.figure is None
        assert plot.alt.endswith(".")
