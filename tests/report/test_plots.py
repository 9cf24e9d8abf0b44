"""Every figure tells of every trial it is for, and escapes what it shows in tooltips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autometa.config import ResourcesConfig
from autometa.report.costs import costs_of
from autometa.report.figures import figures
from autometa.report.html import HERE as PAGE
from autometa.report.importance_plot import importances
from autometa.report.plots import COLOURS, GREY, MARKS, SKY, Plot
from autometa.search.study import rows_of

EVIL = "<b>reason</b> & more"

Make = Callable[..., Any]


def plots_of(made: Any, best: str | None = None) -> dict[str, Plot]:
    rows = rows_of(made.study)
    found = figures(made.study, rows, costs_of(rows, None, ResourcesConfig()), best, "winner")
    return {plot.name: plot for plot in found}


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


def test_lines_stand_where_the_scheduler_cut(make_study: Make) -> None:
    made = make_study()
    made.trial("complete", [0.4, 0.5, 0.6])
    made.trial("pruned", [0.3, 0.2], "cut by the scheduler at 120 meta-iterations")
    for _ in range(2):
        made.trial("pruned", [0.3], "cut by the scheduler at 60 meta-iterations")
    made.trial("pruned", [0.3], "the time of a trial is up")
    figure = plots_of(made)["curves"].figure
    assert figure is not None
    assert [(line.x0, line.x1) for line in figure.layout.shapes] == [(60, 60), (120, 120)]
    told = [(note.x, note.text) for note in figure.layout.annotations]
    assert told == [(60, "2 cut"), (120, "1 cut")]


def contrast(colour: str, other: str) -> float:
    """The ratio of WCAG 2.2."""
    light, dark = sorted(map(luminance, (colour, other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def luminance(colour: str) -> float:
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("ground", ["#ffffff", "#14181c"])
def test_every_colour_is_seen_on_a_light_and_a_dark_page(ground: str) -> None:
    assert ground in (PAGE / "report.css").read_text(encoding="utf-8")
    assert all(contrast(colour, ground) >= 3 for colour in {*COLOURS, SKY, GREY})


def test_of_several_objectives_the_history_has_its_best_so_far_too(make_study: Make) -> None:
    made = make_study(objectives=["accuracy", "parameters"], scheduler={"name": "none"})
    for score in (0.5, 0.4, 0.6):
        made.trial("complete", [score])
    shown = traces(plots_of(made)["history"])
    assert list(shown["best so far"].y) == [0.5, 0.5, 0.6, 0.6]
    assert set(shown) == {"complete", "best so far", "cut early (its last score)"}
