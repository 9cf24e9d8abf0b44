"""How the cost of a second-order MAML meta-iteration grows, beside how theory says that it does.

python -m benchmarks.slopes [OUT]

Against inner steps, tasks, ways and the width of a Conv4: seconds of an iteration, medians of
several rounds in turn, and floating-point operations, which are counted. A slope is that of a line
through the logarithms: 1 is proportional, 1/2 is a square root; at its end it is that of the last
two values, where fixed costs matter least. And against inner steps the memory
of one task's meta-gradient, with the graph of all steps kept and with the steps computed again:
bytes of the tensors that live at once, counted, and what a process (or the GPU) took beyond what it
had before, measured. On a CPU one core does all of it, task by task, so that a slope is of the work
and not of how it is shared out; a GPU has the tasks at once.

The table of times is written to OUT, a Markdown file, that of memory and the figure beside it; left
out, OUT is trials/reference/speed/slopes_cpu.md, or slopes_gpu.md where there is a GPU. Linux only.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean

import torch
from torch.utils.flop_counter import FlopCounterMode

from autometa.engine import meta_gradient
from benchmarks.iteration import DEVICE, ROUNDS, SETTING, Cell, seconds, slope, step_of
from benchmarks.machine import Table, keep_memory, machine
from benchmarks.panels import BLUE, GREEN, ORANGE, VERMILION, Line, Panel, draw
from benchmarks.steps_memory import MB, STEPS, Memory, memories, memory_table

OUT = Path("trials/reference/speed") / f"slopes_{'gpu' if DEVICE == 'cuda' else 'cpu'}.md"


@dataclass(frozen=True)
class Axis:
    """What grows, and the slope of its cost in theory."""

    field: str
    name: str
    values: tuple[int, ...]
    theory: str

    @property
    def cells(self) -> list[Cell]:
        return [replace(Cell(), **{self.field: value}) for value in self.values]


AXES = (
    Axis("steps", "inner steps", (1, 2, 4, 8, 16), "1, but for the queries"),
    Axis("tasks", "tasks", (1, 2, 4, 8, 16, 32), "1"),
    Axis("ways", "ways", (2, 5, 10, 20), "1"),
    Axis("width", "width", (8, 16, 32, 64), "1 – 2"),
)


def operations(cell: Cell) -> int:
    """Floating-point operations of a meta-iteration: one task's, times the tasks."""
    counter = FlopCounterMode(display=False)
    params, batch = cell.params, replace(cell, tasks=1).batch
    with counter:
        meta_gradient(cell.learner, params, batch=batch, strategy="loop")
    return cell.tasks * int(counter.get_total_flops())


def ends(values: Sequence[float]) -> str:
    """The first and the last of them."""
    return " – ".join(
        f"{value:.1f}" if isinstance(value, float) and value < 10 else f"{value:,.0f}"
        for value in (values[0], values[-1])
    )


def time_table(times: dict[Cell, float], counted: dict[Cell, int], out: Path) -> None:
    names = "what grows, from – to, ms, GFLOP, slope of time, at its end, of FLOP, theory"
    table = Table(names.split(", "))
    for axis in AXES:
        spent = [1000 * times[cell] for cell in axis.cells]
        flops = [counted[cell] / 1e9 for cell in axis.cells]
        spans = [ends(each) for each in (axis.values, spent, flops)]
        slopes = [
            slope(axis.values, spent),
            slope(axis.values[-2:], spent[-2:]),
            slope(axis.values, flops),
        ]
        table.add([axis.name, *spans, *(f"{each:.2f}" for each in slopes), axis.theory])
    base = Cell()
    told = (
        f"{base.steps} inner steps, {base.tasks} tasks, {base.ways} ways, Conv4-{base.width} but "
        f"for what grows; {SETTING}; {machine(DEVICE)}, "
        f"{'one core, ' if DEVICE == 'cpu' else ''}median of {ROUNDS}"
    )
    table.close(told, out)


def panels(
    times: dict[Cell, float], counted: dict[Cell, int], found: dict[bool, Memory]
) -> Iterator[Panel]:
    """Time beside operations along each axis and of all cells, and memory along the steps."""
    for axis in AXES:
        spent, flops = ([each[cell] for cell in axis.cells] for each in (times, counted))
        scale = math.exp(fmean(math.log(s / f) for s, f in zip(spent, flops, strict=True)))
        lines = (
            Line(axis.values, [scale * each for each in flops], ORANGE, "∝ FLOP", "--"),
            Line(axis.values, spent, BLUE, "measured"),
        )
        of_time, of_flops = slope(axis.values, spent), slope(axis.values, flops)
        title = f"slope {of_time:.2f}, of FLOP {of_flops:.2f}"
        yield Panel(title, axis.name, "seconds", lines, axis.values)
    points = Line([each / 1e9 for each in counted.values()], [*times.values()], BLUE, style="o")
    yield Panel("all of these", "GFLOP", "seconds", (points,))
    colours = {False: (VERMILION, "kept"), True: (GREEN, "computed again")}
    sizes = [
        Line(STEPS, [size / MB for size in found[again].living], *colours[again])
        for again in colours
    ]
    kept, again = (slope(STEPS[-2:], line.y[-2:]) for line in sizes)
    title = f"slopes {kept:.2f} and {again:.2f} at the end"
    yield Panel(title, "inner steps", "MB of tensors", tuple(sizes), STEPS)


def main(out: Path) -> None:
    torch.set_num_threads(1)
    cells = list(dict.fromkeys(cell for axis in AXES for cell in axis.cells))
    times = seconds({cell: step_of(cell) for cell in cells})
    counted = {cell: operations(cell) for cell in cells}
    for cell in cells:
        print(f"{cell}: {1000 * times[cell]:,.0f} ms, {counted[cell] / 1e9:,.1f} GFLOP", flush=True)
    found = memories()
    draw(list(panels(times, counted, found)), out.with_suffix(".svg"))
    memory_table(found, out.with_name(f"{out.stem}_memory.md"))
    time_table(times, counted, out)


if __name__ == "__main__":
    keep_memory("benchmarks.slopes")
    main(Path(sys.argv[1]) if sys.argv[1:] else OUT)
