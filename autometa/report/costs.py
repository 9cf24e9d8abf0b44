"""What the learners of a study cost: time of workers, CPU- and GPU-hours."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from autometa.config import ResourcesConfig
from autometa.report.plots import BLUE, GREEN, GREY, ORANGE, Plot, style
from autometa.report.text import duration
from autometa.search.study import COMPLETE, PRUNED, TrialRow

NAME, TITLE = "costs", "Time by learner"
FINALISTS, OTHER = "finalists", "other"
COLOURS = {COMPLETE: BLUE, PRUNED: GREY, OTHER: ORANGE, FINALISTS: GREEN}
TOLD = {
    COMPLETE: "complete trials",
    PRUNED: "trials cut early",
    OTHER: "other trials",
    FINALISTS: "retraining as finalist or baseline",
}
UNITS = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


@dataclass(frozen=True)
class Cost:
    """What a learner took.

    Attributes:
        seconds: For what (the keys of ``TOLD``) → seconds of workers, each of whom may have
            several CPUs or a share of a GPU.
        cpus: CPUs of a worker.
        gpus: GPUs of a worker.
    """

    learner: str
    trials: int
    seconds: dict[str, float]
    cpus: float
    gpus: float

    @property
    def total_s(self) -> float:
        return sum(self.seconds.values())

    @property
    def cpu_hours(self) -> float:
        return self.total_s * self.cpus / 3600

    @property
    def gpu_hours(self) -> float:
        return self.total_s * self.gpus / 3600


def costs_of(
    rows: list[TrialRow], result: dict[str, Any] | None, resources: ResourcesConfig
) -> list[Cost]:
    """The learners that have taken time, dearest first."""
    spent: dict[str, defaultdict[str, float]] = defaultdict(lambda: defaultdict(float))
    trials: dict[str, int] = defaultdict(int)
    learners = {row.name: row.learner for row in rows}
    for row in rows:
        spent[row.learner][row.end if row.end in COLOURS else OTHER] += row.seconds
        trials[row.learner] += row.seconds > 0
    for entry in _retrained(result):
        learner = learners.get(entry["name"]) or entry["candidate"]["learner"]
        spent[learner][FINALISTS] += entry["seconds"]
    found = [
        Cost(learner, trials[learner], dict(seconds), resources.cpus_per_trial, resources.gpus)
        for learner, seconds in spent.items()
    ]
    return sorted((each for each in found if each.total_s), key=lambda c: (-c.total_s, c.learner))


def _retrained(result: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Finalists, and the baseline."""
    if result is None:
        return []
    return [*result["finalists"], *([result["baseline"]] if result.get("baseline") else [])]


def costs_plot(costs: list[Cost]) -> Plot:
    """Bars, a learner each, of what its time went to."""
    if not costs:
        return Plot(NAME, TITLE, None, "No trial has taken any time yet.")
    size, unit = next(each for each in UNITS if costs[0].total_s >= each[0] or each[0] == 1)
    figure = go.Figure()
    for kind, told in TOLD.items():
        if any(kind in cost.seconds for cost in costs):
            figure.add_bar(
                x=[cost.seconds.get(kind, 0.0) / size for cost in costs],
                y=[cost.learner for cost in costs],
                text=[duration(cost.seconds.get(kind, 0.0)) for cost in costs],
                textposition="none",
                orientation="h",
                name=told,
                marker={"color": COLOURS[kind]},
                hovertemplate=f"%{{y}}, {told}: %{{text}}<extra></extra>",
            )
    style(figure, TITLE, f"{unit} of workers", "")
    figure.update_layout(height=120 + 34 * len(costs), barmode="stack", bargap=0.35)
    figure.update_yaxes(automargin=True, autorange="reversed")
    told = "; ".join(f"{cost.learner}: {duration(cost.total_s)}" for cost in costs)
    note = "What workers took for training and scoring, added up over all that ran at a time."
    return Plot(NAME, TITLE, figure, f"{told}.", note)


def costs_table(costs: list[Cost]) -> dict[str, Any] | None:
    """Columns and rows with a last row of totals; GPU-hours only where there are any."""
    if not costs:
        return None
    gpus = any(cost.gpus for cost in costs)
    total = sum(cost.total_s for cost in costs)
    rows = [
        _row(c.learner, c.trials, c.total_s, total, c.cpu_hours, c.gpu_hours if gpus else None)
        for c in costs
    ]
    cpu, gpu = sum(c.cpu_hours for c in costs), sum(c.gpu_hours for c in costs)
    trials = sum(c.trials for c in costs)
    last = _row("all", trials, total, total, cpu, gpu if gpus else None)
    columns = ["trials", "time of workers", "share", "CPU-hours", *(["GPU-hours"] if gpus else [])]
    return {"columns": columns, "rows": [*rows, last]}


def _row(
    name: str, trials: int, seconds: float, total: float, cpu: float, gpu: float | None
) -> dict[str, Any]:
    cells = [str(trials), duration(seconds), f"{100 * seconds / total:.0f} %", hours_text(cpu)]
    return {"name": name, "cells": cells if gpu is None else [*cells, hours_text(gpu)]}


def hours_text(hours: float) -> str:
    """Hours to two digits or more: ``0.28``, ``3.1``, ``1,204``."""
    return f"{hours:,.0f}" if hours >= 10 else f"{hours:.2g}"
