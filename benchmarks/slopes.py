"""How the cost of a meta-iteration grows, next to the theory.

Second-order MAML with a Conv4 on images of 28 × 28: time against inner steps, tasks, ways and
width, and memory against inner steps, kept or computed again. In theory time goes with the FLOPs,
which are counted; kept memory with the steps, and computed again with their root.

python -m benchmarks.slopes [OUT], with a figure beside OUT
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch.utils.flop_counter import FlopCounterMode

from autometa.backbones import BACKBONES
from autometa.engine.memory import peak_bytes, tensors_of
from autometa.engine.strategies import choose, meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import Encoder, Moment
from autometa.learners.maml import MAML, MAMLHyper
from benchmarks.machine import Table, keep_memory, machine

IMAGE = (1, 28, 28)
QUERIES = 15
ROUNDS = 5


@dataclass(frozen=True)
class Cell:
    """What is varied, one at a time."""

    steps: int = 2
    tasks: int = 4
    ways: int = 5
    width: int = 32


TIMED = {
    "inner steps": [Cell(steps=steps) for steps in (1, 2, 4, 8, 16)],
    "tasks": [Cell(tasks=tasks) for tasks in (2, 4, 8, 16, 32)],
    "ways": [Cell(ways=ways) for ways in (2, 5, 10, 20)],
    "width": [Cell(width=width) for width in (8, 16, 32, 64)],
}
HELD = [Cell(steps=steps, tasks=1) for steps in (4, 16, 64)]


def scene(cell: Cell, device: torch.device) -> dict[str, Any]:
    """Arguments of :func:`meta_gradient`."""
    backbone = BACKBONES.load("conv4")().build({"width": cell.width}, IMAGE)
    learner = MAML(Encoder(backbone.module, backbone.features), MAMLHyper(inner_steps=cell.steps))
    drawn = learner.init(cell.ways, torch.Generator().manual_seed(0))

    def half(shots: int) -> tuple[torch.Tensor, torch.Tensor]:
        x = torch.rand(cell.tasks, cell.ways * shots, *IMAGE, device=device)
        y = torch.arange(cell.ways, device=device).repeat_interleave(shots)
        return x, y.expand(cell.tasks, -1)

    return {
        "learner": learner,
        "params": {name: value.to(device) for name, value in drawn.items()},
        "batch": Task(*half(1), *half(QUERIES), ways=cell.ways),
        "moment": Moment(0.0, torch.zeros(cell.tasks, 0, device=device)),
    }


def milliseconds(cell: Cell, device: torch.device) -> float:
    """The median after one that isn't timed."""
    given = scene(cell, device)
    strategy = choose(device, torch.get_num_threads(), IMAGE)
    times = []
    for _ in range(ROUNDS + 1):
        start = time.perf_counter()
        grads, _ = meta_gradient(**given, strategy=strategy)
        float(next(iter(grads.values())).sum())  # waits for the device
        times.append(1000 * (time.perf_counter() - start))
    return median(times[1:])


def flops(cell: Cell) -> float:
    """Of the whole gradient, counted."""
    given = scene(cell, torch.device("cpu"))
    with FlopCounterMode(display=False) as counter:
        meta_gradient(**given, strategy="loop")
    return float(counter.get_total_flops())


def megabytes(cell: Cell, recompute: bool) -> float:
    """The most that tensors hold at once."""
    given = scene(cell, torch.device("cpu"))
    if recompute:
        given["learner"] = given["learner"].recomputing()
    known = [*given["params"].values(), *tensors_of(given["batch"])]
    return peak_bytes(lambda: meta_gradient(**given, strategy="loop"), known) / 1e6


@dataclass(frozen=True)
class Curve:
    """A cost along what is varied, and what it should be, but for a factor."""

    name: str
    unit: str
    at: Sequence[int]
    cost: Sequence[float]
    theory: Sequence[float]

    @property
    def line(self) -> list[str]:
        ends = f"{self.at[0]} to {self.at[-1]}"
        costs = f"{self.cost[0]:,.0f} to {self.cost[-1]:,.0f} {self.unit}"
        slopes = (slope(self.at, values) for values in (self.cost, self.theory))
        return [self.name, ends, costs, *(f"{each:.2f}" for each in slopes)]


def slope(at: Sequence[float], values: Sequence[float]) -> float:
    """The power of ``at`` that the values grow with: least squares of the logarithms."""
    return float(np.polyfit(np.log(at), np.log(values), 1)[0])


def curves(device: torch.device) -> list[Curve]:
    """All of them."""
    field = {"inner steps": "steps"}
    found = []
    for name, cells in TIMED.items():
        at = [getattr(cell, field.get(name, name)) for cell in cells]
        cost = [milliseconds(cell, device) for cell in cells]
        found.append(Curve(f"time, {name}", "ms", at, cost, [flops(cell) for cell in cells]))
    steps = [cell.steps for cell in HELD]
    held: dict[str, tuple[bool, Callable[[int], float]]] = {
        "kept": (False, float),
        "computed again": (True, lambda count: count**0.5),
    }
    for name, (recompute, law) in held.items():
        cost = [megabytes(cell, recompute) for cell in HELD]
        title = f"memory, inner steps {name}"
        found.append(Curve(title, "MB", steps, cost, [law(count) for count in steps]))
    return found


def draw(found: Sequence[Curve], path: Path) -> None:
    """Measured costs as points, theory as a line through the last of them."""
    figure = Figure(figsize=(10, 6), layout="constrained")
    for axes, curve in zip(figure.subplots(2, 3).flat, found, strict=True):
        theory = [each * curve.cost[-1] / curve.theory[-1] for each in curve.theory]
        axes.loglog(curve.at, theory, color="#8C8C8C", label="theory")
        axes.loglog(curve.at, curve.cost, "o", color="#0072B2", label="measured")
        axes.set_title(curve.name, fontsize=10)
        axes.set_ylabel(curve.unit)
        axes.set_xticks(curve.at, [str(each) for each in curve.at], minor=False)
        axes.minorticks_off()
    figure.axes[0].legend()
    figure.savefig(path, format="svg", metadata={"Date": None})


def main(out: Path | None) -> None:
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    found = curves(device)
    table = Table(["cost against", "from", "cost", "slope", "in theory"])
    for curve in found:
        table.add(curve.line)
    if out is not None:
        draw(found, out.with_suffix(".svg"))
    table.close(f"{machine(str(device))}; slopes are powers, median of {ROUNDS}", out)


if __name__ == "__main__":
    keep_memory("benchmarks.slopes")
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
