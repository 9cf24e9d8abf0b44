"""A figure of panels with logarithmic axes, drawn as SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

# Okabe and Ito's palette, which colour-blind readers tell apart.
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
COLUMNS = 3


@dataclass(frozen=True)
class Line:
    """Points: ``"o-"`` joined, ``"o"`` alone, ``"--"`` a dashed line without marks."""

    x: Sequence[float]
    y: Sequence[float]
    colour: str
    label: str = ""
    style: str = "o-"


@dataclass(frozen=True)
class Panel:
    """What a panel shows; ``ticks`` along x, where these aren't powers of ten."""

    title: str
    x: str
    y: str
    lines: tuple[Line, ...]
    ticks: tuple[int, ...] = ()


def draw(panels: Sequence[Panel], out: Path) -> None:
    """Write the figure; the same panels give the same file."""
    with matplotlib.rc_context({"svg.hashsalt": out.name}):
        rows = math.ceil(len(panels) / COLUMNS)
        figure = Figure(figsize=(3.4 * COLUMNS, 3 * rows), layout="constrained")
        for place, panel in enumerate(panels, start=1):
            axes = figure.add_subplot(rows, COLUMNS, place)
            for line in panel.lines:
                axes.loglog(line.x, line.y, line.style, color=line.colour, label=line.label, ms=4)
            axes.set_title(panel.title, fontsize="medium")
            axes.set(xlabel=panel.x, ylabel=panel.y)
            if panel.ticks:
                axes.set_xticks(panel.ticks, [str(tick) for tick in panel.ticks])
                axes.xaxis.minorticks_off()
            if any(line.label for line in panel.lines):
                axes.legend(frameon=False)
            axes.spines[["top", "right"]].set_visible(False)
        part = out.with_name(f".{out.name}.part")
        figure.savefig(part, format="svg", metadata={"Date": None})
    part.replace(out)
