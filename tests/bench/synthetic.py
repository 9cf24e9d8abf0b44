"""Records of a space that nobody trained: their curves are a formula."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna

from autometa.bench.records import Record, check_same, save_records
from autometa.config import parse_config
from autometa.search.space import SearchSpace, build_space

SPACE: dict[str, Any] = {
    "learners": {
        "protonet": {
            "meta_lr": {"low": 0.001, "high": 0.1},
            "meta_batch": [1, 2],
            "meta_schedule": "constant",
            "way_factor": 1,
            "distance": "euclidean",
            "scale": 1,
            "learn_scale": False,
            "augment": "none",
        }
    },
    "backbones": {"conv4": {"width": 32}},
}
ITERATIONS = (10, 20, 30)


def space() -> SearchSpace:
    return build_space(parse_config({"space": SPACE}).space, (1, 16, 16), "classification")


def truth(params: Any) -> tuple[float, ...]:
    """Best at a rate of 0.01 and two tasks; it rises to its end in equal steps."""
    distance = abs(math.log10(params["protonet.meta_lr"]) + 2)
    end = 0.9 - 0.3 * distance**2 - 0.1 * (params["protonet.meta_batch"] == 1)
    return tuple(0.2 + (end - 0.2) * step / 3 for step in (1, 2, 3))


def record(number: int, params: dict[str, Any], **changes: Any) -> Record:
    batch = params["protonet.meta_batch"]
    values: dict[str, Any] = {
        "number": number,
        "origin": "random",
        "seed": 0,
        "params": params,
        "candidate": {"learner": "protonet", "hyper": {}},
        "end": "complete",
        "iterations": ITERATIONS,
        "scores": truth(params),
        "ci95": (0.0, 0.0, 0.0),
        "seconds": (1.0 * batch, 2.0 * batch, 3.0 * batch),
    }
    return Record(**values | changes)


def records(count: int) -> list[Record]:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    found, whole = [], space()
    for number in range(count):
        trial = study.ask()
        whole.sample(trial)
        found.append(record(number, trial.params))
    return found


def write_table(folder: Path, count: int = 60) -> Path:
    about = {
        "seed": 0,
        "task": {},
        "space": SPACE,
        "iterations": ITERATIONS[-1],
        "validation": {"every": 10, "tasks": 20},
        "direction": "maximize",
        "input_shape": [1, 16, 16],
    }
    check_same(folder, about)
    save_records(folder, records(count))
    return folder
