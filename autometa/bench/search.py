"""Samplers and schedulers compared on recorded trials: ``autometa bench search``.

Each method searches each table with many seeds; a search is replayed, so that it costs seconds. All
spend meta-iterations, counted in full trials. What is compared is regret: how much the incumbent
lacks to the best that any search has found, without the chance of a single score.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import optuna
import torch

from autometa.bench.regret import summarised
from autometa.bench.replay import Point, Replay
from autometa.bench.search_table import surrogate_rows, write_tables
from autometa.bench.tables import load_table
from autometa.config import SamplerConfig, SchedulerConfig
from autometa.errors import ConfigError, StudyError, suggestion
from autometa.search.folder import make_out, write_bytes_atomically

CURVES = "search.json.gz"
WORTH = 60
"""Full trials that a search may spend."""
RANDOM_WORTH = 500
WORKERS = 4

Part = dict[str, Any]
Row = dict[str, Any]
Notify = Callable[[str], None]


@dataclass(frozen=True)
class Method:
    """A sampler and a scheduler, and how many full trials it may spend."""

    name: str
    sampler: Part
    scheduler: Part
    worth: int = WORTH

    def settings(self) -> Part:
        """What makes two results those of the same method."""
        return {"sampler": self.sampler, "scheduler": self.scheduler, "worth": self.worth}


DEFAULT = Method(
    "autometa",
    SamplerConfig().model_dump(exclude={"parts"}),
    {"name": SchedulerConfig().name, "reduction_factor": SchedulerConfig().reduction_factor},
)
RANDOM = Method("random", {"name": "random"}, {"name": "none"}, RANDOM_WORTH)
LISTED = (
    DEFAULT,
    Method("Optuna's TPE alone", {"name": "tpe"}, {"name": "none"}),
    Method("ASHA + random", {"name": "random"}, {"name": "asha"}),
    RANDOM,
)
PARTS = {"*.inner_lr*": "cmaes", "conv.*": "evolution"}
SAMPLERS: dict[str, Part] = {
    "tpe": {"name": "tpe"},
    "grouped_tpe": {"name": "grouped_tpe"},
    "evolution": {"name": "evolution"},
    "tpe, cmaes for rates, evolution for conv": {"name": "tpe", "parts": PARTS},
    "random": {"name": "random"},
}
SCHEDULERS = ("asha", "hyperband", "median", "none")


def methods() -> list[Method]:
    """Those that the question is about, then every sampler with every scheduler."""
    crossed = [
        Method(f"{name} / {scheduler}", sampler, {"name": scheduler})
        for name, sampler in SAMPLERS.items()
        for scheduler in SCHEDULERS
    ]
    return [*LISTED, *crossed]


def chosen(patterns: Sequence[str]) -> list[Method]:
    """The methods whose names fit one of the patterns, and random search, which all are held to.

    Raises:
        ConfigError: A pattern fits none.
    """
    known = methods()
    for pattern in patterns:
        if not any(fnmatchcase(each.name, pattern) for each in known):
            names = [each.name for each in known]
            raise ConfigError(f"--method {pattern!r} fits none: {suggestion(pattern, names)}")
    return [
        each
        for each in known
        if each == RANDOM or any(fnmatchcase(each.name, pattern) for pattern in patterns)
    ]


def compare(
    folders: Sequence[Path],
    *,
    seeds: int,
    out: Path,
    concurrency: int,
    notify: Notify,
    patterns: Sequence[str] = ("*",),
) -> list[Row]:
    """Run what isn't there yet; the summary's rows, one for each table and method.

    Writes ``search.json.gz``, the searches' courses, and tables of them and of the surrogates.

    Raises:
        StudyError: A folder holds no table, or ``out`` can't be written.
        ConfigError: A pattern fits no method.
    """
    wanted = chosen(patterns)
    found, jobs = _earlier(out), {}
    for folder in folders:
        table = load_table(folder)
        for method in wanted:
            key = f"{table.name} | {method.name}"
            told = method.settings() | {"seeds": seeds, "configurations": table.configurations}
            if found.get(key, {}).get("told") != told:
                jobs[key] = (folder, method, told)
    for key, runs in _searched(jobs, seeds, concurrency):
        found[key] = {"told": jobs[key][2], "runs": runs}
        text = json.dumps(found, allow_nan=False)
        write_bytes_atomically(out / CURVES, gzip.compress(text.encode(), mtime=0))
        notify(key)
    rows = summarised(found, folders, [each.name for each in wanted], RANDOM.name)
    write_tables(out, rows, surrogate_rows(folders))
    return rows


def _earlier(out: Path) -> dict[str, Any]:
    make_out(out)
    try:
        found: dict[str, Any] = json.loads(gzip.decompress((out / CURVES).read_bytes()))
    except FileNotFoundError:
        return {}
    except (OSError, EOFError, ValueError) as error:
        raise StudyError(
            f"out is {str(out)!r}, whose {CURVES} can't be read ({error}): choose another folder"
        ) from None
    return found


def _searched(
    jobs: dict[str, tuple[Path, Method, Part]], seeds: int, concurrency: int
) -> Iterator[tuple[str, list[Row]]]:
    """Each job's searches, as they end."""
    with ProcessPoolExecutor(
        concurrency,
        mp_context=multiprocessing.get_context("spawn"),
        initializer=_quiet,
    ) as pool:
        running: dict[Future[list[Row]], str] = {
            pool.submit(search, folder, method, seeds): key
            for key, (folder, method, _) in jobs.items()
        }
        for done in as_completed(running):
            yield running[done], done.result()


def _quiet() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def search(folder: Path, method: Method, seeds: int) -> list[Row]:
    """The searches of one method on one table, a seed each."""
    return [search_once(folder, method, seed) for seed in range(seeds)]


def search_once(folder: Path, method: Method, seed: int) -> Row:
    """The incumbent after each full trial's worth, the trials begun, and what a proposal took."""
    table = load_table(folder)
    parts = {"sampler": method.sampler, "scheduler": method.scheduler}
    config = table.config(seed, **parts, resources={"concurrency": WORKERS})
    replay = Replay(table.surrogate, table.space, config, method.worth * table.iterations)
    start = time.process_time()
    points = replay.run()
    return {
        "scores": course(points, table.iterations, method.worth),
        "trials": points[-1].trials,
        "ms_per_trial": round(1000 * (time.process_time() - start) / points[-1].trials, 2),
    }


def course(points: Sequence[Point], iterations: int, worth: int) -> list[float]:
    """The incumbent's score when 1, 2, … full trials were spent; 0 before there is one."""
    scores, latest, ahead = [], 0.0, iter(points)
    point = next(ahead, None)
    for spent in range(1, worth + 1):
        while point is not None and point.iterations <= spent * iterations:
            latest, point = point.score, next(ahead, None)
        scores.append(round(latest, 4))
    return scores
