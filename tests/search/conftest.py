"""Studies small enough for a test: regression on sinusoids, milliseconds a trial."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from autometa.config import StudyConfig, parse_config

SMALL: dict[str, Any] = {
    "name": "small",
    "data": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 10, "queries": 10},
    "space": {
        "learners": {"maml": {"inner_steps": [1, 2], "inner_lr": {"low": 0.001, "high": 0.05}}},
        "backbones": {"mlp": {"depth": [1, 2], "*/width": [20, 40]}},
    },
    "budget": {"trials": 6, "iterations": 24},
    "validation": {"every": 4, "tasks": 20},
    "sampler": {"startup_trials": 3},
    "scheduler": {"grace": 4, "reduction_factor": 2},
    "finalists": {"count": 2, "seeds": 2, "tasks": 20},
    "test": {"tasks": 20},
    "baseline": {"learner": "maml", "backbone": "mlp"},
    "resources": {"concurrency": 1},
}


def merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid over ``base``, mapping by mapping."""
    result = dict(base)
    for key, value in over.items():
        nested = isinstance(value, dict) and isinstance(base.get(key), dict)
        result[key] = merged(base[key], value) if nested else value
    return result


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., StudyConfig]:
    def make(**over: Any) -> StudyConfig:
        return parse_config(merged(SMALL | {"out": str(tmp_path / "study")}, over))

    return make


@pytest.fixture(scope="session")
def small_in() -> Callable[..., StudyConfig]:
    """The same for fixtures that live longer than a test: the study folder's place comes first."""

    def make(place: Path, **over: Any) -> StudyConfig:
        return parse_config(merged(SMALL | {"out": str(place / "study")}, over))

    return make


@pytest.fixture(scope="module")
def ray_here() -> Iterator[None]:
    """One Ray for a module's studies, with four logical CPUs and one logical GPU."""
    import ray

    from autometa.search.cluster import QUIET

    os.environ.update(QUIET)
    ray.init(
        num_cpus=4, num_gpus=1, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    yield
    ray.shutdown()


def autometa(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "autometa.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )
