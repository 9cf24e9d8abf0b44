"""Warm starts compared with cold ones on recorded trials: ``autometa bench warm-start``.

For each seed, an earlier search of :data:`EARLIER` trials on every table, whose own seed is another
so that it has no proposal in common with the searches that it advises. Then, on each table, a cold
search, searches that start from another's earlier one or from those of all others, and searches
that start from the same with the ranks turned round, so that the worst trials are recommended. All
searches of a seed draw the same random numbers. Each trial is trained to the end, so trials and
meta-iterations go together.

A cold search's final score, which the others have to reach, is that of the earlier searches: the
cold searches of the comparison would reach their own mean too soon whenever chance lifts it.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import optuna
import torch
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from autometa.bench.alike import alike
from autometa.bench.replay import Replay
from autometa.bench.tables import load_table
from autometa.bench.warm_table import markdown, summarised
from autometa.errors import ConfigError
from autometa.search.earlier import EarlierStudy, ranked
from autometa.search.folder import make_out, write_atomically, write_bytes_atomically
from autometa.search.space import SearchSpace

TRIALS = 50
"""After which a cold search has its final score, which a warm one has to reach within as many."""
LONGER = 75
"""Of cold and misled searches, so that they are seen to reach it too."""
EARLIER = 100
"""Of an earlier study."""
APART = 10**6
"""Between the seed of a search and that of its earlier studies."""

Courses = dict[str, list[float]]
Row = dict[str, Any]


def compare(
    folders: Sequence[Path],
    *,
    seeds: int,
    first_seed: int,
    out: Path,
    concurrency: int,
    notify: Callable[[str], None],
) -> list[Row]:
    """Run all searches; the summary's rows, one for each start on each table.

    Writes ``warm_start.json.gz``, the searches' courses, and ``warm_start.md`` into ``out``.

    Raises:
        UserError: Fewer than two tables, a folder that holds none, or ``out`` can't be written.
    """
    tables = {folder.name: load_table(folder) for folder in folders}
    if len(tables) < 2:
        raise ConfigError("bench warm-start needs at least two tables of different names")
    make_out(out)
    with ProcessPoolExecutor(
        concurrency, mp_context=multiprocessing.get_context("spawn"), initializer=_quiet
    ) as pool:
        found: dict[str, list[list[float]]] = {}
        chosen = range(first_seed, first_seed + seeds)
        for done, courses in enumerate(pool.map(partial(searches, folders), chosen), 1):
            for key, course in courses.items():
                found.setdefault(key, []).append(course)
            notify(f"seed {done} of {seeds}")
    told = {name: table.configurations for name, table in tables.items()}
    about = {"configurations": told, "first_seed": first_seed}
    text = json.dumps(about | {"scores": found}, allow_nan=False)
    write_bytes_atomically(out / "warm_start.json.gz", gzip.compress(text.encode(), mtime=0))
    rows = summarised(found, TRIALS)
    write_atomically(out / "warm_start.md", markdown(rows))
    return rows


def _quiet() -> None:
    torch.set_num_threads(1)
    optuna.logging.set_verbosity(optuna.logging.WARNING)


def searches(folders: Sequence[Path], seed: int) -> Courses:
    """The courses of all searches with one seed.

    They are named ``earlier | B``, ``cold | B``, ``warm | A | B`` and ``misled | A | B``.
    """
    found: Courses = {}
    earlier: dict[str, list[FrozenTrial]] = {}
    for folder in folders:
        study, found[f"earlier | {folder.name}"] = search(folder, seed + APART, EARLIER)
        earlier[folder.name] = study.get_trials(deepcopy=False)
        found[f"cold | {folder.name}"] = search(folder, seed, LONGER)[1]
    for sources, target in starts(folders):
        pair = f"{' + '.join(sources)} | {target.name}"
        for kind, direction, trials in (
            ("warm", StudyDirection.MAXIMIZE, TRIALS),
            ("misled", StudyDirection.MINIMIZE, LONGER),
        ):
            studies = [ranked(name, earlier[name], direction) for name in sources]
            found[f"{kind} | {pair}"] = search(target, seed, trials, studies)[1]
    return found


def starts(folders: Sequence[Path]) -> Iterator[tuple[tuple[str, ...], Path]]:
    """Each table with each of the others, and with all of them."""
    for target in folders:
        others = tuple(folder.name for folder in folders if folder != target)
        for name in others:
            yield (name,), target
        if len(others) > 1:
            yield others, target


@lru_cache(maxsize=8)
def _space(folder: Path) -> SearchSpace:
    return alike(load_table(folder).space)


def search(
    folder: Path, seed: int, trials: int, earlier: Sequence[EarlierStudy] = ()
) -> tuple[optuna.Study, list[float]]:
    """A search on a table, and what its incumbent would score without chance after each trial."""
    table = load_table(folder)
    config = table.config(
        seed,
        budget={"trials": trials, "iterations": table.iterations},
        scheduler={"name": "none"},
        resources={"concurrency": 1},
    )
    spent = trials * table.iterations
    replay = Replay(table.surrogate, _space(folder), config, spent, earlier=earlier)
    reports = len(table.surrogate.iterations)
    points = replay.run()[reports - 1 :: reports]
    return replay.study, [round(point.score, 4) for point in points]
