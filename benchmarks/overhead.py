"""What a trial costs beside its training, and how long the first result takes, on real Ray.

Searches of trials that train for nothing, two at a time, with all that a search keeps switched on:
database, checkpoints, Ray's dashboard, the live view. Beside them Ray Tune as it is glued by hand.

python -m benchmarks.overhead [OUT]
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import optuna
import ray
import yaml
from rich.console import Console

from autometa.config import StudyConfig, parse_config
from autometa.report.live import LiveView
from autometa.search.cluster import QUIET
from autometa.search.events import Event, Observer, SearchStarted, TrialEnded
from autometa.search.malloc import kept_memory
from autometa.search.mirror import mirrored
from autometa.search.plan import plan
from autometa.search.study import create_study, storage_of
from autometa.search.tuner import run_trials
from benchmarks import glue
from benchmarks.machine import Table, machine

STARTS = 3
FIRST = 20
TRIALS = 220
METHODS = {
    "autometa (TPE, ASHA)": ("tpe", "asha"),
    "autometa (random, no scheduler)": ("random", "none"),
}
STARTED = {
    "data": {"name": "glyphs"},
    "task": {"ways": 5, "shots": 1, "queries": 5},
    "space": {"learners": {"maml": {"meta_batch": 2}}, "backbones": {"conv": {}}},
    "budget": {"trials": 10, "iterations": 1},
    "validation": {"every": 1, "tasks": 2},
    "scheduler": {"grace": 1},
    "resources": {"concurrency": glue.CONCURRENCY},
}


def study_config(out: Path, trials: int, sampler: str, scheduler: str) -> StudyConfig:
    """Sinusoids: one meta-iteration of one task, and a scoring on two; seven dimensions."""
    rates = {"modes": ["learned"], "groups": ["layer"]}
    learner = {"meta_batch": 1, "inner_steps": 1, "inner_lr": rates}
    return parse_config(
        {
            "data": {"name": "sinusoid"},
            "task": {"ways": 1, "shots": 10, "queries": 10},
            "space": {"learners": {"maml": learner}, "backbones": {"mlp": {"depth": 2}}},
            "budget": {"trials": trials, "iterations": 1},
            "validation": {"every": 1, "tasks": 2},
            "sampler": {"name": sampler},
            "scheduler": {"name": scheduler, "grace": 1},
            "baseline": None,
            "resources": {"concurrency": glue.CONCURRENCY},
            "out": str(out),
        }
    )


def start_ray() -> None:
    """As a search has it."""
    os.environ.update(QUIET | kept_memory())
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(num_cpus=glue.CONCURRENCY, dashboard_host="127.0.0.1", log_to_driver=False)


def watched(out: Path, trials: int, sampler: str, scheduler: str, observer: Observer) -> None:
    """A search, under the live view."""
    planned = plan(study_config(out, trials, sampler, scheduler))
    out.mkdir()
    config = planned.config
    storage = storage_of(config)
    study = mirrored(create_study(config, storage, planned.direction), storage)
    with (
        Path(os.devnull).open("w") as screen,
        LiveView(Console(file=screen, force_terminal=True)) as view,
    ):

        def observe(event: Event) -> None:
            view(event)
            observer(event)

        observe(SearchStarted(config, planned.direction, 0))
        run_trials(study, planned.space, config, planned.spec, observe)


def search(out: Path, trials: int, sampler: str, scheduler: str) -> list[float]:
    """When each trial ended, in seconds since the epoch."""
    times: list[float] = []

    def observe(event: Event) -> None:
        if isinstance(event, TrialEnded):
            times.append(time.time())

    watched(out, trials, sampler, scheduler, observe)
    return times


def trial_ms(search: Callable[[Path, int], list[float]], first: int, trials: int) -> float:
    """Between the ends of two trials, on average."""
    with tempfile.TemporaryDirectory() as folder:
        times = search(Path(folder) / "study", trials)
    return 1000 * (times[-1] - times[first]) / (len(times) - 1 - first)


def first_result_s(command: list[str], sign: str) -> float:
    """From the start of a process to the line that begins with the sign; it is ended then."""
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "space.yaml"
        config.write_text(yaml.safe_dump(STARTED | {"out": str(Path(folder) / "study")}))
        arguments = [part.format(config=config) for part in command]
        start = time.perf_counter()
        process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        if not any(line.startswith(sign) for line in process.stdout):
            raise SystemExit(f"{' '.join(arguments)}: no result")
        seconds = time.perf_counter() - start
        process.send_signal(signal.SIGINT)
        process.communicate()
    return seconds


def main(out: Path | None) -> None:
    python = [sys.executable, "-m"]
    starts = {
        "Ray Tune, glued": ([*python, "benchmarks.glue"], "1 trial"),
        "autometa (TPE, ASHA)": ([*python, "autometa.cli", "search", "{config}"], "1/"),
    }
    found: dict[str, list[float]] = {name: [] for name in starts}
    for _ in range(STARTS):
        for name, (command, sign) in starts.items():
            found[name].append(first_result_s(command, sign))
    start_ray()
    table = Table(["search", "ms a trial", "s to the first result"])
    name = "Ray Tune, glued"
    alone = trial_ms(partial(glue.search, reuse=False), 4, 24)
    reused = trial_ms(partial(glue.search, reuse=True), FIRST, TRIALS)
    table.add([name, f"{alone:,.0f}", f"{median(found[name]):.1f}"])
    table.add([f"{name}, actors reused", f"{reused:.0f}", ""])
    for name, (sampler, scheduler) in METHODS.items():
        spent = trial_ms(partial(search, sampler=sampler, scheduler=scheduler), FIRST, TRIALS)
        start = f"{median(found[name]):.1f}" if name in found else ""
        table.add([name, f"{spent:.0f}", start])
    table.close(f"{machine()}, Ray {ray.__version__}; starts: median of {STARTS}", out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
