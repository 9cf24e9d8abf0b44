"""Trials as a terminal table: end as colour and word, progress bar, score, sparkline."""

from __future__ import annotations

import math
from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from autometa.report.board import Line
from autometa.report.text import NOTHING, one_line, score_text
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    FAILED,
    MAXIMIZE,
    PRUNED,
    REJECTED,
    RUNNING,
)

STYLES = {
    COMPLETE: "green",
    PRUNED: "yellow",
    DIVERGED: "magenta",
    FAILED: "bold red",
    REJECTED: "dim",
    RUNNING: "cyan",
}
BLOCKS = "▁▂▃▄▅▆▇█"
BAR = 6
SPARK = 8
NARROW = 74
NARROW_SPARK = 5
BESIDE_NAMES = 46
"""Columns that the rest of a narrow table takes."""
WIDE = 100
WIDEST = 128


def trial_table(lines: Iterable[Line], iterations: int, direction: str, width: int) -> Table:
    """The trials, with as many columns as ``width`` has room for."""
    lines = list(lines)
    scale = _range(lines, direction)
    columns = _columns(width)
    stretched = "trial" if width < NARROW else "reason"
    table = Table(
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        padding=(0, 1, 0, 0 if width < NARROW else 1),
        expand=stretched in columns,
    )
    for name in columns:
        right = name in ("score", "iterations")
        ratio = 1 if name == stretched else None
        table.add_column(
            name,
            justify="right" if right else "left",
            no_wrap=True,
            overflow="ellipsis",
            ratio=ratio,
        )
    for line in lines:
        cells = _cells(line, iterations, direction, scale)
        if width < NARROW:
            cells["trial"] = Text(_end(line.name, width - BESIDE_NAMES))
        table.add_row(*(cells[name] for name in columns))
    return table


def _columns(width: int) -> list[str]:
    """Learner and backbone stand in a trial's name already, so they are the first to go."""
    if width < NARROW:
        return ["trial", "state", "iterations", "score", "trend"]
    names = ["trial", "state", "meta-iterations", "score", "curve"]
    if width >= WIDEST:
        names[1:1] = ["learner", "backbone"]
    return [*names, "reason"] if width >= WIDE else names


def _cells(
    line: Line, iterations: int, direction: str, scale: tuple[float, float]
) -> dict[str, Text]:
    """Column → cell."""
    style = STYLES.get(line.end, "")
    curve = sparkline(_scaled(line.curve, direction), *scale)
    return {
        "trial": Text(line.name),
        "learner": Text(line.learner),
        "backbone": Text(line.backbone),
        "state": Text(line.end, style),
        "meta-iterations": progress(line.iteration, iterations, style),
        "iterations": Text(f"{line.iteration}/{iterations}"),
        "score": Text(score_text(line.score, line.ci95, direction)),
        "curve": Text(curve),
        "trend": Text(curve[-NARROW_SPARK:]),
        "reason": Text(one_line(line.reason)),
    }


def _end(name: str, room: int) -> str:
    """The end of a name, where its number is."""
    return name if len(name) <= room else f"…{name[len(name) - max(room, 4) + 1 :]}"


def progress(done: int, total: int, style: str = "") -> Text:
    """``━━━╌╌╌  90/180``."""
    count = f"{done}/{total}".rjust(2 * len(str(total)) + 1)
    return Text.assemble(bar_text(done, total, style), " ", count)


def bar_text(done: int, total: int, style: str = "") -> Text:
    """The bar alone; done and left differ in shape, not only in colour."""
    full = min(BAR * done // max(total, 1), BAR)
    return Text.assemble(("━" * full, style), ("╌" * (BAR - full), "dim"))


def sparkline(values: list[float], low: float, high: float) -> str:
    """The last scores as blocks, on the scale from ``low`` to ``high``."""
    span = high - low or 1.0
    shown = [value for value in values if math.isfinite(value)][-SPARK:]
    top = len(BLOCKS) - 1
    return "".join(BLOCKS[round(top * min(max((v - low) / span, 0), 1))] for v in shown) or NOTHING


def _scaled(curve: list[float], direction: str) -> list[float]:
    """Errors on a log scale: they span orders of magnitude."""
    return curve if direction == MAXIMIZE else [math.log10(max(v, 1e-12)) for v in curve]


def _range(lines: list[Line], direction: str) -> tuple[float, float]:
    """One scale for all sparklines, so that they can be compared."""
    values = [v for line in lines for v in _scaled(line.curve, direction) if math.isfinite(v)]
    return (min(values), max(values)) if values else (0.0, 1.0)
