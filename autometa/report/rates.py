"""The learning rates of the winner's inner loop, as a heat map of steps and layers."""

from __future__ import annotations

import math
from typing import Any

import plotly.graph_objects as go

from autometa.report.plots import BLUE, VERMILION, Plot, style

MOST_TEXTS = 14
"""Columns whose cells have room for a number."""
PALE = "#eef5fa"
MODES = {
    "learned": "Learned by the outer loop from one initial value.",
    "refined": "Learned by the outer loop from where the search proposed.",
    "searched": "As the search proposed them.",
    "fixed": "Fixed by the search space.",
}


def rates_plot(rates: dict[str, Any] | None) -> Plot | None:
    """Rates after meta-training; None where the method has no rate vector."""
    if rates is None:
        return None
    title, rows, columns = "Learning rates of the inner loop", rates["rows"], rates["columns"]
    steps = ["every step"] if rates["mean"] else [f"step {i + 1}" for i in range(len(rows))]
    numbers = len(columns) <= MOST_TEXTS
    figure = go.Figure()
    figure.add_heatmap(
        x=columns,
        y=steps,
        text=[[f"{rate:.3g}" for rate in row] for row in rows],
        texttemplate="%{text}" if numbers else None,
        hovertemplate="%{y}, %{x}: %{text}<extra></extra>",
        showscale=False,
        xgap=1,
        ygap=1,
        **shades(rows),
    )
    style(figure, title, rates["groups"] if len(columns) > 1 else "", "")
    figure.update_layout(height=130 + 34 * len(rows))
    figure.update_xaxes(type="category", showgrid=False)
    figure.update_yaxes(type="category", autorange="reversed", showgrid=False)
    return Plot("closer-rates", title, figure, _alt(rates, steps), _note(rates))


def shades(rows: list[list[float]]) -> dict[str, Any]:
    """Depth by the logarithm; rates below 0, which can be learned, have a colour of their own."""
    flat = [rate for row in rows for rate in row]
    if min(flat) > 0:
        scale = [[0, PALE], [1, BLUE]]
        logs = [[math.log10(rate) for rate in row] for row in rows]
        return {"z": logs, "colorscale": scale}
    most = max(map(abs, flat)) or 1.0
    scale = [[0, VERMILION], [0.5, PALE], [1, BLUE]]
    return {"z": rows, "colorscale": scale, "zmin": -most, "zmax": most}


def _alt(rates: dict[str, Any], steps: list[str]) -> str:
    cells = [
        (rate, f"{rate:.3g} ({step}, {column})")
        for step, row in zip(steps, rates["rows"], strict=True)
        for column, rate in zip(rates["columns"], row, strict=True)
    ]
    low, high = min(cells)[1], max(cells)[1]
    what = "Mean learning rates by layer" if rates["mean"] else "Learning rates"
    size = f"{len(steps)} × {len(rates['columns'])}"
    return f"{what}, {size} of them: lowest {low}, highest {high}."


def _note(rates: dict[str, Any]) -> str:
    shade = "Shades go by the logarithm; " if min(map(min, rates["rows"])) > 0 else ""
    mode = MODES[rates["mode"]]
    return f"{shade}{mode[0].lower()}{mode[1:]}" if shade else mode
