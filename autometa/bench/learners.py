"""Every learner under the same budget, on the same backbone and data: ``autometa bench learners``.

The budget is what meta-training may look at: as many images as ``budget.iterations`` tasks hold. A
learner that takes several tasks a meta-iteration, or more ways than it is tested on, gets fewer
meta-iterations. Hyper-parameters are the published defaults but where the configuration fixes
others. Each learner has a process and one thread of its own; meta-test tasks are the same for all.
"""

from __future__ import annotations

import multiprocessing
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autometa import episodes
from autometa.bench.table import write_tables
from autometa.config import BaselineConfig, StudyConfig
from autometa.episodes import Dataset
from autometa.errors import ConfigError
from autometa.learners import LEARNERS
from autometa.learners.hyper_json import to_json
from autometa.report.text import score_text
from autometa.search.folder import StudyFolder, make_out, write_json
from autometa.search.malloc import keep_memory
from autometa.search.plan import DIRECTIONS, absolute, published
from autometa.search.study import METRICS
from autometa.trial import (
    TrialSpec,
    build_learner,
    episode_shape,
    load_params,
    score_checkpoint,
    train_to_end,
    training_shape,
)

RESULTS = "learners.json"
VALIDATION_TASKS = 2
"""A trial always ends with a scoring; here nobody looks at it."""

Row = dict[str, Any]
Notify = Callable[[str, str], None]


def bench(config: StudyConfig, notify: Notify) -> dict[str, Any]:
    """Train and test every learner of ``space.learners``; rows that are there already are kept.

    Writes ``learners.json``, ``learners.csv`` and ``learners.md`` into ``out``; ``notify`` is
    called with a learner's name and its score in words as each row is there.

    Raises:
        UserError: Something in the configuration can't be run.
    """
    config = absolute(config)
    data = episodes.load(config.data.name, config.data.options)
    data.source("test", episode_shape(config.task.model_dump()))
    specs = {name: learner_spec(name, config, data) for name in config.space.learners}
    results = _head(config, data)
    direction = results["direction"]
    rows: dict[str, Row] = _earlier(config.folder, specs, results)
    results["rows"] = rows
    for name, row in _measured({n: s for n, s in specs.items() if n not in rows}, config):
        rows[name] = row
        write_json(config.folder / RESULTS, results)
        notify(name, row.get("failed") or score_text(row["score"], row["ci95"], direction))
    write_tables(config.folder, results)
    return results


def _head(config: StudyConfig, data: Dataset) -> dict[str, Any]:
    """What all rows have in common."""
    direction = DIRECTIONS[data.problem]
    return {
        "metric": METRICS[direction],
        "direction": direction,
        "data": {"name": config.data.name, "fingerprint": data.fingerprint},
        "task": config.task.model_dump(),
        "budget_images": _budget_images(config),
        "seed": config.seed,
        "test_tasks": config.test.tasks,
        "python": sys.version.split()[0],
        "torch": torch.__version__,
    }


def _budget_images(config: StudyConfig) -> int:
    return config.budget.iterations * config.task.ways * (config.task.shots + config.task.queries)


def learner_spec(name: str, config: StudyConfig, data: Dataset) -> TrialSpec:
    """A learner's trial: as many meta-iterations as its budget of images allows."""
    if len(config.space.backbones) != 1:
        known = ", ".join(config.space.backbones)
        raise ConfigError(f"space.backbones are {known}, but a comparison takes exactly one")
    backbone, architecture = next(iter(config.space.backbones.items()))
    given = BaselineConfig(learner=name, backbone=backbone, hyper=config.space.learners[name])
    field = f"space.learners.{name}"
    candidate = published(given, data, architecture=architecture, field=field)
    spec = TrialSpec(
        learner=name,
        hyper=candidate.hyper,
        backbone=backbone,
        architecture=candidate.architecture,
        data=config.data.name,
        data_options=config.data.options,
        task=config.task.model_dump(),
        seed=config.seed,
        iterations=1,
        validate_every=1,
        validation_tasks=VALIDATION_TASKS,
    )
    iterations = max(1, _budget_images(config) // _images_per_iteration(spec, data))
    return replace(spec, iterations=iterations, validate_every=iterations)


def _images_per_iteration(spec: TrialSpec, data: Dataset) -> int:
    learner, _ = build_learner(spec)
    shape = training_shape(spec.task, data, learner.hyper)
    return int(learner.hyper.meta_batch * shape.ways * shape.per_class)


def _told(spec: TrialSpec) -> dict[str, Any]:
    """A spec without where the data lie on this machine; their fingerprint says what they are."""
    values = spec.to_json()
    options = {k: v for k, v in values["data_options"].items() if k != "root"}
    return values | {"data_options": options}


def _earlier(folder: Path, specs: dict[str, TrialSpec], head: dict[str, Any]) -> dict[str, Row]:
    """Rows of an earlier run that still are what would be measured now."""
    make_out(folder)
    earlier = StudyFolder(folder).read_json(folder / RESULTS)
    if earlier is None or any(earlier.get(key) != head[key] for key in ("data", "test_tasks")):
        return {}
    return {
        name: row
        for name, row in earlier["rows"].items()
        if name in specs and _complete(row["spec"]) == _told(specs[name]) and "failed" not in row
    }


def _complete(told: dict[str, Any]) -> dict[str, Any]:
    """A row's spec with the hyper-parameters that came after it, which had their defaults then."""
    defaults = to_json(LEARNERS.load(told["learner"]).hyper_type())
    return told | {"hyper": defaults | told["hyper"]}


def _measured(specs: dict[str, TrialSpec], config: StudyConfig) -> Iterator[tuple[str, Row]]:
    """Rows in the order in which they are ready."""
    keep_memory()
    with ProcessPoolExecutor(
        config.resources.concurrency,
        mp_context=multiprocessing.get_context("spawn"),
        max_tasks_per_child=1,
    ) as pool:
        running: dict[Future[Row], str] = {
            pool.submit(measure, spec.to_json(), config.test.tasks): name
            for name, spec in specs.items()
        }
        for done in as_completed(running):
            yield running[done], done.result()


def measure(spec_json: dict[str, Any], test_tasks: int) -> Row:
    """Train one learner on one thread, and score it on meta-test tasks."""
    torch.set_num_threads(1)
    spec = TrialSpec.from_json(spec_json)
    row: Row = {"spec": _told(spec), "iterations": spec.iterations}
    try:
        return row | _measurements(spec, test_tasks)
    except Exception as error:  # one learner's failure is a row, not the end of the table
        return row | {"failed": " ".join(f"{type(error).__name__}: {error}".split())}


def _measurements(spec: TrialSpec, test_tasks: int) -> Row:
    learner, _ = build_learner(spec)
    before = _peak_bytes()
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        trained = train_to_end(spec, checkpoint)
        start = time.perf_counter()
        score = score_checkpoint(spec, checkpoint, "test", "meta-test", test_tasks)
        tested = time.perf_counter() - start
        params = load_params(checkpoint)
    learned = learner.learned(params)
    return {
        "paper": learner.paper,
        "score": score.mean,
        "ci95": score.ci95,
        "loss": score.loss,
        "ece": score.ece,
        "train_s": trained,
        "ms_per_iteration": 1000 * trained / spec.iterations if learned else 0.0,
        "tasks_per_iteration": learner.hyper.meta_batch,
        "test_ms_per_task": 1000 * tested / test_tasks,
        "peak_mib": (_peak_bytes() - before) / 2**20,
        "parameters": sum(params[name].numel() for name in learned),
    }


def _peak_bytes() -> int:
    """Most memory that this process has held; Linux counts in KiB, macOS in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
