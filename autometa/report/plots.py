"""Figures of a study, in Plotly: history, learning curves, scores by learner; and their look."""

from __future__ import annotations

import html
import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go

from autometa.report.text import score_text
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    MAXIMIZE,
    MINIMIZE,
    PRUNED,
    RUNNING,
    TrialRow,
    best_first,
    score_direction,
)

if TYPE_CHECKING:
    import optuna

# Okabe and Ito's palette, which colour-blind readers tell apart; the light ones are darkened until
# each has a contrast of 3 to 1 on the page, be that light or dark (WCAG 2.2, 1.4.11).
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#C47F00", "#009E73", "#D55E00"
SKY, GREY = "#2893D0", "#8C8C8C"
COLOURS = (BLUE, VERMILION, GREEN, ORANGE, "#C46C9C", SKY, "#8F8A00")
MARKS = {COMPLETE: "circle", PRUNED: "x", DIVERGED: "triangle-down"}
CUT = re.compile(r"cut by the scheduler at (\d+)")
MOST_TOLD_CUTS = 6
MEANINGS = {COMPLETE: "complete", PRUNED: "cut early", DIVERGED: "diverged"}


@dataclass(frozen=True)
class Plot:
    """A figure, or the reason why there is none.

    Attributes:
        name: Short, for anchors.
        alt: What it shows, for readers who can't see it.
        note: How to read it.
    """

    name: str
    title: str
    figure: go.Figure | None
    alt: str
    note: str = ""


def history(study: optuna.Study, rows: list[TrialRow]) -> Plot:
    """Score by trial, with the best so far; trials that were cut are marked."""
    from optuna import visualization

    title, direction = "Optimisation history", score_direction(study)
    best = best_first(rows, direction)
    if not best:
        return Plot(title=title, name="history", figure=None, alt="No trial is complete yet.")
    figure = visualization.plot_optimization_history(study, **_score_only(study))
    figure.data = figure.data[:1]  # further ones differ between one objective and several
    (points,) = figure.data
    names = {row.number: row.name for row in rows}
    points.update(name="complete", marker={"color": BLUE, "size": 9})
    points.update(text=[names.get(n, "") for n in points.x], hovertemplate=_hover(direction))
    numbers, leads = _best_so_far(rows, direction)
    figure.add_scatter(
        x=numbers,
        y=leads,
        mode="lines",
        name="best so far",
        line={"color": VERMILION, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )
    cut = [row for row in rows if row.end == PRUNED and row.score is not None]
    figure.add_scatter(
        x=[row.number for row in cut],
        y=[row.score for row in cut],
        text=[row.name for row in cut],
        hovertemplate=_hover(direction),
        mode="markers",
        name="cut early (its last score)",
        marker={"color": GREY, "symbol": "x", "size": 7},
    )
    style(figure, title, "trial", _score_axis(direction), direction)
    alt = (
        f"Scores of {len(best)} complete and {len(cut)} cut trials in the order of the search. "
        f"The best is {score_text(best[0].score, best[0].ci95, direction)}, by {best[0].name}."
    )
    return Plot("history", title, figure, alt)


def _best_so_far(rows: list[TrialRow], direction: str) -> tuple[list[int], list[float]]:
    """Numbers of the complete trials, and the best score up to each; on to the last trial."""
    better = max if direction == MAXIMIZE else min
    complete = [row for row in rows if row.end == COMPLETE and row.score is not None]
    leads = list(accumulate((row.score or 0.0 for row in complete), better))
    return [*(row.number for row in complete), rows[-1].number], [*leads, leads[-1]]


def _score_only(study: optuna.Study) -> dict[str, Any]:
    """Of several objectives Optuna must be told which one to draw: the score, the first."""
    if len(study.directions) == 1:
        return {}
    return {"target": lambda trial: trial.values[0], "target_name": "score"}


def learning_curves(
    rows: list[TrialRow], direction: str, best: str | None = None, role: str = "winner"
) -> Plot:
    """Scores over training, a line a trial; × where the scheduler cut, the best one thick."""
    name, title = "curves", "Learning curves"
    shown = [row for row in rows if row.curve]
    if not shown:
        return Plot(name, title, None, "No trial has been scored yet.")
    figure, colours = go.Figure(), _colours(shown)
    for learner, colour in colours.items():
        _add_lines(figure, learner, colour, [r for r in shown if r.learner == learner], direction)
    for end in MARKS:
        _add_ends(figure, end, [r for r in shown if r.end == end])
    _add_cuts(figure, shown)
    for row in shown:
        if row.name == best:
            _add_best(figure, row, f"{role}: {row.name}", colours[row.learner], direction)
    style(figure, title, "meta-iterations", _score_axis(direction), direction)
    note = "A × ends a trial that the scheduler cut, at the dotted lines, or the clock."
    return Plot(name, title, figure, _curves_alt(shown), note)


def _curves_alt(rows: list[TrialRow]) -> str:
    told = MEANINGS | {RUNNING: "unfinished"}
    ends = [told[row.end] for row in rows if row.end in told]
    counts = ", ".join(f"{ends.count(end)} {end}" for end in told.values() if end in ends)
    return f"Learning curves of {len(rows)} trials: {counts}."


def _add_lines(
    figure: go.Figure, learner: str, colour: str, rows: list[TrialRow], direction: str
) -> None:
    """All trials of a learner as one trace with gaps: quick to draw, one entry in the legend."""
    x, y, text = list[Any](), list[Any](), list[str]()
    for row in rows:
        x += [*row.curve, None]
        y += [*row.curve.values(), None]
        text += [_label(row)] * (len(row.curve) + 1)
    figure.add_scatter(
        x=x,
        y=y,
        text=text,
        mode="lines+markers",
        name=learner,
        line={"color": colour, "width": 1.3},
        marker={"size": 3},
        opacity=0.6,
        hovertemplate=_hover(direction),
    )


def _add_ends(figure: go.Figure, end: str, rows: list[TrialRow]) -> None:
    """One colour for all: a colour means a learner, and the legend shows an end once."""
    if rows:
        figure.add_scatter(
            x=[max(row.curve) for row in rows],
            y=[row.curve[max(row.curve)] for row in rows],
            mode="markers",
            name=MEANINGS[end],
            marker={"symbol": MARKS[end], "size": 8, "color": GREY},
            hoverinfo="skip",
        )


def cuts(rows: list[TrialRow]) -> dict[int, int]:
    """Meta-iteration → how many trials the scheduler cut there."""
    at = Counter(int(found[1]) for row in rows if (found := CUT.match(row.reason)))
    return dict(sorted(at.items()))


def _add_cuts(figure: go.Figure, rows: list[TrialRow]) -> None:
    """A line where the scheduler cut; where there are many, as with the median rule, no texts."""
    at = cuts(rows)
    for iteration, count in at.items():
        told = f"{count} cut" if len(at) <= MOST_TOLD_CUTS else None
        figure.add_vline(iteration, line={"color": GREY, "width": 1, "dash": "dot"})
        if told:
            figure.add_annotation(
                x=iteration, y=1, yref="paper", text=told, showarrow=False, yanchor="bottom"
            )


def _add_best(figure: go.Figure, row: TrialRow, name: str, colour: str, direction: str) -> None:
    figure.add_scatter(
        x=list(row.curve),
        y=list(row.curve.values()),
        text=[_label(row)] * len(row.curve),
        mode="lines",
        name=name,
        line={"color": colour, "width": 4},
        hovertemplate=_hover(direction),
    )


def scores_by_learner(rows: list[TrialRow], direction: str) -> Plot:
    """Last scores of every trial, a column a learner."""
    name, title = "learners", "Scores by learner"
    shown = [row for row in rows if row.end in (COMPLETE, PRUNED) and row.score is not None]
    if not shown:
        return Plot(name, title, None, "No trial has ended with a score yet.")
    figure, colours = go.Figure(), {COMPLETE: BLUE, PRUNED: GREY}
    for end, colour in colours.items():
        here = [row for row in shown if row.end == end]
        figure.add_box(
            x=[row.learner for row in here],
            y=[row.score for row in here],
            text=[_label(row) for row in here],
            name=MEANINGS[end],
            boxpoints="all",
            jitter=0.5,
            pointpos=0,
            offsetgroup=end,
            line={"color": "rgba(0,0,0,0)"},
            fillcolor="rgba(0,0,0,0)",
            marker={"color": colour, "symbol": MARKS[end], "size": 8},
            hoveron="points",
            hovertemplate=_hover(direction),
        )
    style(figure, title, "learner", _score_axis(direction), direction)
    figure.update_layout(boxmode="group")
    return Plot(name, title, figure, _learners_alt(shown, direction))


def _learners_alt(rows: list[TrialRow], direction: str) -> str:
    groups: dict[str, list[TrialRow]] = defaultdict(list)
    for row in rows:
        groups[row.learner].append(row)
    told = []
    for learner, members in groups.items():
        best = next(iter(best_first(members, direction)), None)
        known = score_text(best.score, best.ci95, direction) if best else "none complete"
        told.append(f"{learner}: {len(members)} trials, best {known}")
    return "; ".join(told) + "."


def _colours(rows: list[TrialRow]) -> dict[str, str]:
    """Learner → colour."""
    learners = sorted({row.learner for row in rows})
    return {learner: COLOURS[i % len(COLOURS)] for i, learner in enumerate(learners)}


def _label(row: TrialRow) -> str:
    """A trial in a tooltip; Plotly reads a little HTML there."""
    why = f": {row.reason}" if row.reason else ""
    return html.escape(f"{row.name}, {row.end}{why}")


def _hover(direction: str) -> str:
    score = "%{y:.1%}" if direction == MAXIMIZE else "%{y:.4g}"
    return f"%{{text}}<br>%{{x}}: {score}<extra></extra>"


def _score_axis(direction: str) -> str:
    metric = "accuracy, %" if direction == MAXIMIZE else "MSE"
    return f"meta-validation {metric}"


def style(figure: go.Figure, title: str, x: str, y: str, direction: str | None = None) -> None:
    """The page's look, and axes that suit a score of this direction."""
    figure.update_layout(
        title={"text": title},
        template="none",
        paper_bgcolor="rgba(0,0,0,0)",
        plot_bgcolor="rgba(0,0,0,0)",
        font={"family": "system-ui, sans-serif", "size": 13},
        margin={"l": 60, "r": 16, "t": 48, "b": 52},
        height=420,
        legend={"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        hoverlabel={"namelength": -1},
    )
    figure.update_xaxes(title={"text": x}, automargin=True, zeroline=False, showgrid=True)
    figure.update_yaxes(title={"text": y}, automargin=True, zeroline=False, showgrid=True)
    if direction == MAXIMIZE:
        figure.update_yaxes(tickformat=".0%")
    elif direction == MINIMIZE:
        figure.update_yaxes(type="log")
