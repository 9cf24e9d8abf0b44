"""Memory of a meta-gradient by its inner steps, where all are kept and where they're done again."""

from __future__ import annotations

import ctypes
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path

import torch

from autometa.engine.memory import peak_bytes
from benchmarks.iteration import DEVICE, SETTING, Cell, gradient_of, seconds, slope
from benchmarks.machine import Table, machine

STEPS = (1, 4, 16, 64)
MB = 1e6


@dataclass(frozen=True)
class Memory:
    """Of one task's meta-gradient at each of :data:`STEPS`: bytes counted and measured."""

    living: list[int]
    resident: list[int]
    seconds: list[float]


def memories() -> dict[bool, Memory]:
    """With the steps kept, and computed again."""
    cells = [Cell(steps=steps, tasks=1) for steps in STEPS]
    keys = [(again, cell) for again in (False, True) for cell in cells]
    times = seconds({(again, cell): gradient_of(cell, again) for again, cell in keys})
    found = {}
    for again in (False, True):
        with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as pool:
            taken = list(pool.map(resident, cells, [again] * len(cells)))
        counted = [living(cell, again) for cell in cells]
        found[again] = Memory(counted, taken, [times[again, cell] for cell in cells])
    return found


def memory_table(found: dict[bool, Memory], out: Path) -> None:
    kept, again = found[False], found[True]
    columns = [kept.living, kept.resident, again.living, again.resident]
    names = "inner steps, kept: MB counted, measured, again: MB counted, measured, time"
    table = Table(names.split(", "))
    for i, steps in enumerate(STEPS):
        ratio = again.seconds[i] / kept.seconds[i]
        table.add([str(steps), *(f"{each[i] / MB:,.1f}" for each in columns), f"{ratio:.2f} ×"])
    slopes = [f"{slope(STEPS[-2:], each[-2:]):.2f}" for each in columns]
    table.add([f"slope, {STEPS[-2]} – {STEPS[-1]}", *slopes, ""])
    told = (
        f"Of one task's meta-gradient, Conv4-{Cell().width}, {SETTING}; {machine(DEVICE)}; "
        "counted are tensors that live at once, measured is the growth of the process, "
        "time is times that with steps kept"
    )
    table.close(told, out)


def living(cell: Cell, recompute: bool) -> int:
    """The most bytes of tensors that live at once in a meta-gradient, with what it is given."""
    return peak_bytes(gradient_of(cell, recompute), [])


def resident(cell: Cell, recompute: bool) -> int:
    """The most bytes that a meta-gradient took beyond what was there before, in a fresh process."""
    torch.set_num_threads(1)
    gradient_of(replace(cell, steps=1), recompute)()  # libraries and their own buffers
    gradient = gradient_of(cell, recompute)
    if DEVICE == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        gradient()
        return torch.cuda.max_memory_allocated() - before
    ctypes.CDLL(None).malloc_trim(0)  # what is free would be taken first, unseen
    Path("/proc/self/clear_refs").write_text("5")  # sets the highest to what there is now
    before = _status("VmHWM")
    gradient()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    """A number of bytes that Linux tells of this process."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))
