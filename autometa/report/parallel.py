"""Parallel coordinates of the trials, turned: a row a parameter, a line a trial, down to its score.

Optuna's own figure leaves out trials that lack a parameter, as all do of other learners, needs
WebGL, which printing and headless browsers don't, and is too wide for a phone.
"""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import plotly.graph_objects as go
from optuna.distributions import CategoricalDistribution

from autometa.report.importances import TooAlikeError, ped_anova
from autometa.report.plots import BLUE, GREY, ORANGE, SKY, VERMILION, Plot, style
from autometa.report.text import score_text
from autometa.search.study import MAXIMIZE, TrialRow, best_first, score_direction

if TYPE_CHECKING:
    import optuna
    from optuna.distributions import BaseDistribution

NAME, TITLE = "parallel", "Parallel coordinates"
FEWEST = 2
MOST_ROWS, MOST_ENTRIES, MOST_LINES = 9, 2, 300
ALWAYS = ("learner", "backbone")
UNUSED = -0.16
ROW_PX = 58
MOST_CHARACTERS = 48  # of one row's texts, which a phone is to show beside each other
QUARTERS = (
    ("best quarter", BLUE),
    ("second quarter", SKY),
    ("third quarter", ORANGE),
    ("last quarter", GREY),
)


@dataclass(frozen=True)
class Axis:
    """A row: where a value stands, from 0 on the left to 1, and the texts at some of the places."""

    name: str
    at: Callable[[Any], float]
    marks: tuple[tuple[float, str], ...]


def parallel(study: optuna.Study, rows: list[TrialRow]) -> Plot:
    """Complete trials over the parameters that matter most, the best ones on top."""
    direction = score_direction(study)
    shown = best_first(rows, direction)[:MOST_LINES]
    if len(shown) < FEWEST:
        return Plot(NAME, TITLE, None, "Two complete trials are needed to compare them.")
    axes = _axes(study, shown)
    if not axes:
        return Plot(NAME, TITLE, None, "The complete trials don't differ in what is searched.")
    axes.append(_score_axis(shown, direction))
    figure = go.Figure()
    for (name, colour), trials in zip(QUARTERS[::-1], _quarters(shown)[::-1], strict=True):
        if trials:
            _add_lines(figure, name, trials, axes, direction)
            figure.data[-1].update(line={"color": colour, "width": 1.6}, opacity=0.8)
    _add_lines(figure, f"best: {shown[0].name}", shown[:1], axes, direction)
    figure.data[-1].update(line={"color": VERMILION, "width": 3.5})
    _dress(figure, axes, unused=any(_lacks(row, axes) for row in shown))
    parameters = [axis.name for axis in axes[:-1]]
    alt = f"{len(shown)} complete trials over {', '.join(parameters)} and the score."
    note = "A line is a trial; a row is a parameter, which a line that stands left of it lacks."
    return Plot(NAME, TITLE, figure, alt, note)


def _quarters(trials: list[TrialRow]) -> list[list[TrialRow]]:
    """The trials by rank; the first quarter has one where there are few."""
    size = math.ceil(len(trials) / len(QUARTERS))
    return [trials[i * size : (i + 1) * size] for i in range(len(QUARTERS))]


def _axes(study: optuna.Study, shown: list[TrialRow]) -> list[Axis]:
    """Of the parameters in which the trials differ those that matter most."""
    try:
        shares = ped_anova(study)
    except TooAlikeError:
        shares = {}
    values: dict[str, list[Any]] = {}
    for row in shown:
        for name, value in row.params.items():
            values.setdefault(name, []).append(value)
    differ = [name for name, own in values.items() if len(set(own)) > 1]
    order = _few_entries(sorted(differ, key=lambda n: (n not in ALWAYS, -shares.get(n, 0.0))))
    kinds = _distributions(study)
    return [_axis(name, values[name], kinds[name]) for name in order[:MOST_ROWS]]


def _few_entries(names: list[str]) -> list[str]:
    """Without the later ones of a rate vector, which would fill the figure."""
    seen = Counter[str]()
    kept = []
    for name in names:
        vector = name.partition("[")[0]
        seen[vector] += 1
        if seen[vector] <= MOST_ENTRIES:
            kept.append(name)
    return kept


def _distributions(study: optuna.Study) -> dict[str, BaseDistribution]:
    trials = study.get_trials(deepcopy=False)
    return {name: kind for trial in trials for name, kind in trial.distributions.items()}


def _axis(name: str, values: list[Any], kind: BaseDistribution) -> Axis:
    if isinstance(kind, CategoricalDistribution):
        options = [option for option in kind.choices if option in values]
        step = 1 / (len(options) - 1)
        place = {option: step * i for i, option in enumerate(options)}
        every = math.ceil(sum(len(str(each)) + 2 for each in options) / MOST_CHARACTERS)
        marks = tuple((place[each], str(each)) for each in options[::every])
        return Axis(name, place.__getitem__, marks)
    return _numbers(name, min(values), max(values), log=getattr(kind, "log", False))


def _numbers(name: str, low: float, high: float, *, log: bool) -> Axis:
    scale: Callable[[float], float] = math.log if log else float
    start, span = scale(low), scale(high) - scale(low)

    def at(value: float) -> float:
        return (scale(value) - start) / span

    return Axis(name, at, ((0.0, f"{low:.3g}"), (1.0, f"{high:.3g}")))


def _score_axis(shown: list[TrialRow], direction: str) -> Axis:
    scores = [float(row.score or 0.0) for row in shown]
    low, high = min(scores), max(scores)
    marks = tuple((at, score_text(s, None, direction)) for at, s in ((0.0, low), (1.0, high)))
    span = (high - low) or 1.0
    name = "accuracy" if direction == MAXIMIZE else "mean squared error"
    return Axis(f"score: {name}", lambda score: (score - low) / span, marks)


def _value(row: TrialRow, axis: Axis, last: bool) -> float:
    if last:
        return axis.at(row.score)
    return axis.at(row.params[axis.name]) if axis.name in row.params else UNUSED


def _lacks(row: TrialRow, axes: list[Axis]) -> bool:
    return any(axis.name not in row.params for axis in axes[:-1])


def _add_lines(
    figure: go.Figure, name: str, rows: list[TrialRow], axes: list[Axis], direction: str
) -> None:
    """Trials as one trace with gaps."""
    x, y, text = list[Any](), list[Any](), list[str]()
    for row in rows:
        score = score_text(row.score, row.ci95, direction)
        x += [_value(row, axis, axis is axes[-1]) for axis in axes] + [None]
        y += [*range(len(axes)), None]
        text += [html.escape(f"{row.name}: {score}")] * (len(axes) + 1)
    figure.add_scatter(x=x, y=y, text=text, mode="lines", name=name)
    figure.data[-1].update(hovertemplate="%{text}<extra></extra>")


def _dress(figure: go.Figure, axes: list[Axis], *, unused: bool) -> None:
    """Rows with their names above and their values below."""
    style(figure, TITLE, "", "")
    left = UNUSED - 0.06 if unused else -0.06
    bare = {"showticklabels": False, "fixedrange": True, "ticks": "", "showline": False}
    figure.update_xaxes(range=[left, 1.06], showgrid=False, **bare)
    rows = list(range(len(axes)))
    figure.update_yaxes(range=[len(axes) - 0.45, -0.55], tickvals=rows, **bare)
    figure.update_layout(height=60 + ROW_PX * len(axes), margin={"l": 4, "r": 4, "b": 12})
    for i, axis in enumerate(axes):
        _annotate(figure, 0.0, i, html.escape(axis.name), "left", 18, bold=True)
        for at, told in axis.marks:
            side = "left" if at == 0 else "right" if at == 1 else "center"
            _annotate(figure, at, i, html.escape(told), side, -12)
    if unused:
        _annotate(figure, UNUSED, len(axes) - 1, "without", "center", -12)


def _annotate(
    figure: go.Figure, x: float, y: float, text: str, side: str, shift: int, *, bold: bool = False
) -> None:
    figure.add_annotation(
        x=x,
        y=y,
        text=f"<b>{text}</b>" if bold else text,
        xanchor=side,
        yanchor="middle",
        yshift=shift,
        showarrow=False,
        font={"size": 12 if bold else 11},
        bgcolor="rgba(0,0,0,0)",  # the page's ground once it is drawn, so that texts stay legible
    )
