"""The configuration that most tests of the search begin with, and studies that are shared."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autometa.config import StudyConfig
from autometa.search import run
from autometa.search.events import Event
from autometa.search.folder import StudyFolder

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


@dataclass(frozen=True)
class Searched:
    """A study that a search has ended, with what it told meanwhile."""

    config: StudyConfig
    folder: StudyFolder
    events: list[Event]


def searched_whole(config: StudyConfig) -> Searched:
    """By a search that nothing happened to; to be read."""
    events = list[Event]()
    return Searched(config, run.search(config, events.append), events)
