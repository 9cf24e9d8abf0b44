"""Whether the winner is as often right as it says it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import plotly.graph_objects as go

from autometa.report.plots import BLUE, GREY, Plot, style
from autometa.report.text import percent
from autometa.search.study import MAXIMIZE

BINS = 15
"""As the expected calibration error has them (Guo et al., ICML 2017)."""


@dataclass(frozen=True)
class Bin:
    """Queries whose confidence lies in (low, high], with their mean confidence and accuracy."""

    low: float
    high: float
    count: int
    confidence: float
    accuracy: float


def reliability(confidence: Sequence[float], correct: Sequence[float]) -> list[Bin]:
    """The bins that aren't empty, of the confidence of every query and whether it was right."""
    told, right = np.asarray(confidence), np.asarray(correct, dtype=float)
    index = np.clip(np.ceil(told * BINS).astype(int), 1, BINS)
    return [
        Bin(
            (number - 1) / BINS,
            number / BINS,
            int((index == number).sum()),
            float(told[index == number].mean()),
            float(right[index == number].mean()),
        )
        for number in sorted(set(index.tolist()))
    ]


def reliability_plot(calibration: dict[str, Any] | None) -> Plot | None:
    """Accuracy against confidence; None for a regression."""
    if calibration is None:
        return None
    confidence = [each for task in calibration["confidence"] for each in task]
    correct = [each for task in calibration["correct"] for each in task]
    bins, most = reliability(confidence, correct), len(confidence)
    figure = go.Figure()
    figure.add_scatter(
        x=[0, 1],
        y=[0, 1],
        mode="lines",
        name="as often right as sure",
        line={"color": GREY, "dash": "dash"},
        hoverinfo="skip",
    )
    figure.add_scatter(
        x=[each.confidence for each in bins],
        y=[each.accuracy for each in bins],
        text=[f"{each.count:,} queries" for each in bins],
        mode="lines+markers",
        name="winner (larger: more queries)",
        line={"color": BLUE, "width": 2},
        marker={"size": [6 + 24 * (each.count / most) ** 0.5 for each in bins], "opacity": 0.8},
        hovertemplate="%{text}: %{x:.1%} sure, %{y:.1%} right<extra></extra>",
    )
    title = "Calibration"
    style(figure, title, "confidence, %", "accuracy, %", MAXIMIZE)
    figure.update_xaxes(tickformat=".0%", range=[0, 1.02])
    figure.update_yaxes(range=[0, 1.05])
    return Plot("closer-calibration", title, figure, _alt(calibration["ece"], confidence, correct))


def _alt(ece: float, confidence: Sequence[float], correct: Sequence[float]) -> str:
    sure, right = float(np.mean(confidence)), float(np.mean(correct))
    word = "too sure" if sure > right else "not sure enough"
    return (
        f"Expected calibration error {percent(ece)} over {len(correct):,} queries in {BINS} bins "
        f"of confidence; on the whole it is {word}: {percent(sure)} sure, {percent(right)} right."
    )
