"""What this machine's processors are doing, for the live view."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

import psutil
import pynvml

EVERY_S = 2.0


@dataclass(frozen=True)
class Load:
    """A processor: share of its time (0 … 1), bytes in use, bytes that there are."""

    busy: float
    used: int
    total: int


class Usage:
    """Measured at most every other second: busier looking would see noise, and cost."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen = clock()
        self._text = ""
        psutil.cpu_percent()  # from here on it tells of the time since the call before
        self._gpus = list(_handles())

    def text(self) -> str:
        """``CPU 93 %, 3.1/25.3 GB  GPU 45 %, 10.0/80.0 GB``; empty in the first two seconds."""
        if self._clock() - self._seen >= EVERY_S:
            self._seen = self._clock()
            memory = psutil.virtual_memory()
            cpu = Load(psutil.cpu_percent() / 100, memory.total - memory.available, memory.total)
            self._text = usage_text(cpu, [_load(each) for each in self._gpus])
        return self._text


def _handles() -> Iterable[object]:
    """NVIDIA's GPUs; none without their driver."""
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError:
        return
    for index in range(pynvml.nvmlDeviceGetCount()):
        yield pynvml.nvmlDeviceGetHandleByIndex(index)


def _load(gpu: object) -> Load:
    memory = pynvml.nvmlDeviceGetMemoryInfo(gpu)
    try:
        busy = pynvml.nvmlDeviceGetUtilizationRates(gpu).gpu / 100
    except pynvml.NVMLError:  # a slice of a GPU doesn't tell
        busy = float("nan")
    return Load(busy, int(memory.used), int(memory.total))


def usage_text(cpu: Load, gpus: list[Load]) -> str:
    """Several GPUs are added up."""
    parts = [_part("CPU", cpu)]
    if gpus:
        busy = sum(each.busy for each in gpus) / len(gpus)
        name = "GPU" if len(gpus) == 1 else f"{len(gpus)} GPUs"
        used, total = sum(each.used for each in gpus), sum(each.total for each in gpus)
        parts.append(_part(name, Load(busy, used, total)))
    return "  ".join(parts)


def _part(name: str, load: Load) -> str:
    share = f"{100 * load.busy:.0f} %, " if load.busy == load.busy else ""
    return f"{name} {share}{load.used / 1e9:.1f}/{load.total / 1e9:.1f} GB"
