"""The closer look at the winner: its figures and pictures, from ``insight.json``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import plotly.graph_objects as go

from autometa.report.pictures import Picture, pictures
from autometa.report.plots import BLUE, GREY, VERMILION, Plot, style
from autometa.report.rates import rates_plot
from autometa.report.reliability import reliability_plot
from autometa.report.text import score_text
from autometa.search.folder import StudyFolder
from autometa.search.study import MAXIMIZE

BINS = 20


@dataclass(frozen=True)
class Closer:
    """What the page shows of the winner beyond its score.

    Attributes:
        tasks: How many it was looked at on.
        failed: Why there is nothing to show.
    """

    name: str
    seed: int
    tasks: int = 0
    plots: tuple[Plot, ...] = ()
    pictures: tuple[Picture, ...] = ()
    failed: str | None = None


def closer(folder: StudyFolder, result: dict[str, Any] | None) -> Closer | None:
    """What is known of the winner; None where nobody looked, or at another one.

    Raises:
        StudyError: ``insight.json`` is damaged.
    """
    known = folder.read_json(folder.insight) if result else None
    if known is None or result is None or known["name"] != result["winner"]["name"]:
        return None
    if "failed" in known:
        return Closer(known["name"], known["seed"], failed=known["failed"])
    scores, direction = known["scores"], result["direction"]
    found = (
        tasks_plot(scores, direction),
        reliability_plot(known["calibration"]),
        steps_plot(known["steps"], direction),
        rates_plot(known["rates"]),
    )
    return Closer(
        known["name"],
        known["seed"],
        len(scores),
        tuple(plot for plot in found if plot is not None),
        tuple(pictures(known["episodes"], len(scores), direction)),
    )


def tasks_plot(scores: Sequence[float], direction: str) -> Plot:
    """How many tasks have which score."""
    accuracy = direction == MAXIMIZE
    title = "Accuracy by task" if accuracy else "Mean squared error by task"
    counts, edges = histogram(scores, 1.0 if accuracy else max(scores))
    mean, middles = float(np.mean(scores)), (edges[1:] + edges[:-1]) / 2
    figure = go.Figure()
    figure.add_bar(
        x=middles.tolist(),
        y=counts.tolist(),
        width=(edges[1:] - edges[:-1]).tolist(),
        text=[_between(low, high, direction) for low, high in pairwise(edges)],
        textposition="none",
        marker={"color": BLUE, "line": {"color": "white", "width": 1}},
        hovertemplate="%{y} tasks: %{text}<extra></extra>",
    )
    figure.add_vline(x=mean, line={"color": VERMILION, "width": 2, "dash": "dash"})
    style(figure, title, "accuracy, %" if accuracy else "MSE", "tasks")
    if accuracy:
        figure.update_xaxes(tickformat=".0%", range=[0, 1.005])
    low, *_, high = quartiles = np.quantile(scores, [0, 0.25, 0.5, 0.75, 1]).tolist()
    alt = (
        f"Scores of {len(scores)} meta-validation tasks: from {score_text(low, None, direction)} "
        f"to {score_text(high, None, direction)}, half of them between "
        f"{score_text(quartiles[1], None, direction)} and "
        f"{score_text(quartiles[3], None, direction)}."
    )
    return Plot("closer-tasks", title, figure, alt, "The broken line is the mean.")


def histogram(scores: Sequence[float], high: float) -> tuple[np.ndarray, np.ndarray]:
    """Counts [BINS] of scores from 0 to ``high``, and the edges [BINS + 1] of the bins.

    A bin has its lower edge, by more than what single precision rounds, and the last one both.
    """
    edges = np.linspace(0, high or 1.0, BINS + 1)
    nudged = np.minimum(np.asarray(scores) + 1e-6 * edges[-1], edges[-1])
    return np.histogram(nudged, edges)[0], edges


def _between(low: float, high: float, direction: str) -> str:
    return f"{score_text(low, None, direction)} – {score_text(high, None, direction)}"


def steps_plot(steps: dict[str, Any] | None, direction: str) -> Plot | None:
    """Score against the number of gradient steps; None for a learner that takes none."""
    if steps is None:
        return None
    accuracy = direction == MAXIMIZE
    title = f"{'Accuracy' if accuracy else 'Mean squared error'} after each inner step"
    known = [point for point in steps["points"] if point["mean"] is not None]
    figure = go.Figure()
    figure.add_scatter(
        x=[point["steps"] for point in known],
        y=[point["mean"] for point in known],
        error_y={"array": [point["ci95"] or 0.0 for point in known], "color": GREY, "width": 3},
        mode="lines+markers",
        line={"color": BLUE, "width": 2},
        marker={"size": 7},
        hovertemplate=f"%{{x}} steps: %{{y:{'.1%' if accuracy else '.4g'}}}<extra></extra>",
    )
    own = {"color": VERMILION, "width": 2, "dash": "dash"}
    figure.add_vline(x=steps["own"], line=own)
    y = "meta-validation accuracy, %" if accuracy else "meta-validation MSE"
    style(figure, title, "gradient steps on the support set", y, direction)
    return Plot("closer-steps", title, figure, _steps_alt(steps, direction), STEPS_NOTE)


STEPS_NOTE = (
    "The broken line is at the steps it was set to; steps beyond those of meta-training go by the "
    "last one's rates. Bars are 95 % intervals over tasks, the same tasks for all points."
)


def _steps_alt(steps: dict[str, Any], direction: str) -> str:
    told = {
        point["steps"]: score_text(point["mean"], point["ci95"], direction)
        if point["mean"] is not None
        else "not finite"
        for point in steps["points"]
    }
    own = steps["own"]
    last = max(told)
    return (
        f"On {steps['tasks']} tasks, before any step: {told[0]}; after {own}, which it was set to: "
        f"{told[own]}; after {last}: {told[last]}."
    )
