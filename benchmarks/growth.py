"""What a trial costs in a search of many: its time, the driver's memory, the database.

One search of trials that train for nothing, as in the benchmark of overhead: all have the same
dimensions, since TPE may come to prefer trials of more of them, which cost more.

python -m benchmarks.growth [TRIALS [OUT]]
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

import ray

from autometa.search.events import Event, TrialEnded
from autometa.search.folder import StudyFolder
from benchmarks.machine import Table, machine
from benchmarks.overhead import start_ray, watched

TRIALS = 10_000
WINDOWS = (100, 300, 1_000, 3_000, 10_000)
WIDTH = 0.2
"""Of a window, as a share of the trials at its end."""


def memory_mb() -> float:
    """What this process holds."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def main(trials: int, out: Path | None) -> None:
    start_ray()
    lines: list[list[str]] = []
    ends: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory() as folder:
        home = StudyFolder(Path(folder) / "study")

        def observe(event: Event) -> None:
            if not isinstance(event, TrialEnded):
                return
            ends.append((time.time(), time.process_time()))
            now = len(ends)
            if now in WINDOWS or now == trials:
                first = ends[-1 - int(WIDTH * now)]
                wall, cpu = (
                    1000 * (b - a) / int(WIDTH * now) for a, b in zip(first, ends[-1], strict=True)
                )
                size = home.database.stat().st_size / 1e6
                told = (f"{wall:.0f}", f"{cpu:.0f}", f"{memory_mb():.0f}", f"{size:.1f}")
                lines.append([f"{now:,}", *told])

        watched(home.path, trials, "tpe", "asha", observe)
    table = Table(["trials", "ms a trial", "driver, ms of CPU", "driver, MB", "study.db, MB"])
    for line in lines:
        table.add(line)
    table.close(f"{machine()}, Ray {ray.__version__}; the last fifth of so many trials", out)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(int(given[0]) if given else TRIALS, Path(given[1]) if given[1:] else None)
