"""What a trial costs beside its training and scoring, on real Ray with one worker.

Studies of few and of more trials of a few milliseconds each: the overhead of a trial is how much
longer the larger study takes, less its trials' own time, for each trial that it has more. Beside
them Ray Tune as it is glued by hand: its OptunaSearch and its ASHA around a function that reports
as often and does nothing, with as many dimensions; it keeps neither a database nor checkpoints.

python -m benchmarks.overhead [FEW MORE]
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import optuna
import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from autometa.config import StudyConfig, parse_config
from autometa.search.cluster import KEPT_MEMORY, QUIET
from autometa.search.mirror import mirrored
from autometa.search.plan import plan
from autometa.search.study import create_study, rows_of, storage_of
from autometa.search.tuner import run_trials, spent_s

REPEATS = 3
REPORTS = 3
DIMENSIONS = 8
METHODS = {
    "autometa: TPE, ASHA": ("tpe", "asha"),
    "TPE alone": ("tpe", "none"),
    "random, ASHA": ("random", "asha"),
    "random": ("random", "none"),
}
GLUE = "Ray Tune's OptunaSearch, ASHA"


def study_config(out: Path, trials: int, sampler: str, scheduler: str) -> StudyConfig:
    """Sinusoids, three meta-iterations."""
    return parse_config(
        {
            "data": {"name": "sinusoid"},
            "task": {"ways": 1, "shots": 10, "queries": 10},
            "space": {"learners": {"maml": {"meta_batch": 1}}, "backbones": {"mlp": {}}},
            "budget": {"trials": trials, "iterations": REPORTS},
            "validation": {"every": 1, "tasks": 2},
            "sampler": {"name": sampler},
            "scheduler": {"name": scheduler, "grace": 1},
            "baseline": None,
            "resources": {"concurrency": 1},
            "out": str(out),
        }
    )


def ours(sampler: str, scheduler: str) -> Callable[[Path, int], float]:
    """Seconds of a study beside its trials."""

    def spend(out: Path, trials: int) -> float:
        planned = plan(study_config(out, trials, sampler, scheduler))
        out.mkdir()
        study = mirrored(
            create_study(planned.config, storage_of(planned.config), planned.direction)
        )
        run_trials(study, planned.space, planned.config, planned.spec, lambda _: None)
        return spent_s(study) - sum(row.seconds for row in rows_of(study))

    return spend


def nothing(config: dict[str, Any]) -> None:
    """A trial that costs nothing."""
    for step in range(1, REPORTS + 1):
        tune.report({"score": 0.5, "training_iteration": step})


def glued(out: Path, trials: int, reuse: bool = False) -> float:
    """Seconds of a study of trials that do nothing."""
    tuner = tune.Tuner(
        nothing,
        param_space={f"rate_{i}": tune.loguniform(1e-4, 1e-1) for i in range(DIMENSIONS)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="score", mode="max"),
            scheduler=ASHAScheduler(metric="score", mode="max", max_t=REPORTS),
            num_samples=trials,
            max_concurrent_trials=1,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(storage_path=str(out), verbose=0),
    )
    start = time.perf_counter()
    tuner.fit()
    return time.perf_counter() - start


def per_trial_s(spend: Callable[[Path, int], float], few: int, more: int) -> float:
    """The median over repeats."""
    found = []
    for _ in range(REPEATS):
        with tempfile.TemporaryDirectory() as folder:
            less, most = (spend(Path(folder) / str(trials), trials) for trials in (few, more))
        found.append((most - less) / (more - few))
    return median(found)


def main(few: int, more: int) -> None:
    os.environ.update(QUIET | KEPT_MEMORY)
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level="CRITICAL")
    studies = {GLUE: glued, f"{GLUE}, reused actors": partial(glued, reuse=True)}
    studies |= {name: ours(*parts) for name, parts in METHODS.items()}
    print("method | ms a trial", flush=True)
    for name, spend in studies.items():
        print(f"{name} | {1000 * per_trial_s(spend, few, more):.0f}", flush=True)


if __name__ == "__main__":
    main(*(map(int, sys.argv[1:]) if sys.argv[1:] else (5, 20)))
