"""What a data set costs in memory when eight trials have it at once, on real Ray.

python -m benchmarks.memory [OUT]

Studies of eight trials that run at the same time, of a folder of some 220 MB of pixels and of a
tiny one of the same shape: what the large one takes beyond the tiny one is the data. Counted is the
proportional set size of the driver and all trials' processes, in which memory that n processes
share counts once: the most there was while all eight trials ran. Once the decoded images are in the
cache folder as usual; once that folder can't be written, so that each process has its own copy.
Linux only. The table is written to OUT (a Markdown file) as well.
"""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import optuna
import psutil
import ray

from autometa.config import StudyConfig, parse_config
from autometa.search.cluster import QUIET
from autometa.search.malloc import kept_memory
from autometa.search.plan import plan
from autometa.search.study import create_study, rows_of, storage_of
from autometa.search.tuner import run_trials
from benchmarks.machine import Table, machine

TRIALS = 8
SECONDS = 45
SIDE = 84
TINY, LARGE = 12, 260
"""Classes of the two data sets, of :data:`IMAGES` each."""

IMAGES = 40
POLL_S = 0.5
MB = 1e6


def pictures(folder: Path, classes: int) -> Path:
    """Noise, as uncompressed pictures."""
    rng = np.random.default_rng(0)
    head = f"P6 {SIDE} {SIDE} 255\n".encode()
    for c in range(classes):
        (folder / f"c{c:03}").mkdir(parents=True)
        for i in range(IMAGES):
            (folder / f"c{c:03}" / f"{i:02}.ppm").write_bytes(head + rng.bytes(SIDE * SIDE * 3))
    return folder


def study_config(out: Path, root: Path) -> StudyConfig:
    """Trials that differ in next to nothing and last long enough to meet."""
    return parse_config(
        {
            "data": {"name": "imagefolder", "options": {"root": str(root), "image_size": SIDE}},
            "task": {"ways": 2, "shots": 1, "queries": 2},
            "space": {
                "learners": {"protonet": {"meta_batch": 1, "way_factor": 1, "augment": "none"}},
                "backbones": {"conv4": {"width": 32}},
            },
            "budget": {"trials": TRIALS, "iterations": 100, "trial_time": SECONDS},
            "validation": {"every": 100, "tasks": 2},
            "sampler": {"name": "random"},
            "scheduler": {"name": "none"},
            "baseline": None,
            "resources": {"concurrency": TRIALS, "cpus_per_trial": 1 / TRIALS},
            "out": str(out),
        }
    )


class Watch(threading.Thread):
    """The driver's and the trials' memory.

    Attributes:
        most: Bytes, the most there were while all trials ran.
    """

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.most = 0

    def run(self) -> None:
        driver = psutil.Process()
        while True:
            trials = [each for each in driver.children(recursive=True) if runs_a_trial(each)]
            if len(trials) == TRIALS:
                self.most = max(self.most, sum(map(proportional_bytes, [driver, *trials])))
            time.sleep(POLL_S)


def runs_a_trial(process: psutil.Process) -> bool:
    """By its title, which a trial's worker takes from the trial."""
    try:
        return process.cmdline()[0].startswith("ray::protonet")
    except (psutil.Error, IndexError):
        return False


def proportional_bytes(process: psutil.Process) -> int:
    """Its memory, where what n processes share counts 1/n; 0 of a process that has ended."""
    try:
        lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return 0
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def measure(out: Path, root: Path) -> None:
    """Run a study and print the most bytes."""
    os.environ.update(QUIET | kept_memory())
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    planned = plan(study_config(out, root))
    out.mkdir()
    study = create_study(planned.config, storage_of(planned.config), planned.direction)
    watch = Watch()
    watch.start()
    run_trials(study, planned.space, planned.config, planned.spec, lambda _: None)
    ends = [row.end for row in rows_of(study)]
    if ends != ["complete"] * TRIALS or not watch.most:
        raise SystemExit(f"trials ended as {ends}, {watch.most} bytes were seen")
    print(json.dumps(watch.most))


def measured(folder: Path, name: str, root: Path, cache: Path) -> int:
    """The same in a process of its own."""
    arguments = [sys.executable, "-m", "benchmarks.memory", "--of", str(folder / name), str(root)]
    environment = os.environ | {"AUTOMETA_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(arguments, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return int(json.loads(done.stdout.splitlines()[-1]))


def main(out: Path | None) -> None:
    table = Table(["decoded images", "data set, MB", "all processes, MB", "beyond a tiny data set"])
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny, large = (pictures(folder / f"of{c}", c) for c in (TINY, LARGE))
        size = LARGE * IMAGES * SIDE * SIDE * 3
        (folder / "file").touch()
        places = {"in the cache folder": folder / "cache", "nowhere": folder / "file" / "below"}
        for number, (told, cache) in enumerate(places.items()):
            few, more = (
                measured(folder, f"{number}{root.name}", root, cache) for root in (tiny, large)
            )
            times = f"{(more - few) / MB:,.0f} MB, {(more - few) / size:.2f} ×"
            table.add([told, f"{size / MB:,.0f}", f"{more / MB:,.0f}", times])
    told = f"{TRIALS} trials at once, {machine()}; × is times the data set"
    table.close(told, out)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--of"]:
        measure(Path(sys.argv[2]), Path(sys.argv[3]))
    else:
        main(Path(sys.argv[1]) if sys.argv[1:] else None)
