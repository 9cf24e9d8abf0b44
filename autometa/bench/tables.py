"""A recorded table as a search sees it: its space, its surrogate, its settings."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from autometa.bench.records import ABOUT, load_records
from autometa.bench.surrogate import Surrogate
from autometa.config import StudyConfig, parse_config
from autometa.errors import StudyError
from autometa.learners.base import CLASSIFICATION
from autometa.search.folder import StudyFolder
from autometa.search.space import SearchSpace, build_space
from autometa.search.study import MAXIMIZE

LEAST = 40
"""Configurations below which nothing is interpolated."""


@dataclass(frozen=True)
class Table:
    """Recorded trials of one data set; ``about`` is what the recording noted."""

    name: str
    about: dict[str, Any]
    space: SearchSpace
    surrogate: Surrogate
    configurations: int

    @property
    def iterations(self) -> int:
        """Meta-iterations of a full trial."""
        return int(self.about["iterations"])

    def config(self, seed: int, **parts: Any) -> StudyConfig:
        """A study on this table whose number of trials isn't limited."""
        settings = {
            "seed": seed,
            "space": self.about["space"],
            "task": self.about["task"],
            "budget": {"trials": 10**6, "iterations": self.iterations},
            "validation": self.about["validation"],
        }
        grace = {"grace": self.about["validation"]["every"]}
        parts["scheduler"] = grace | parts.get("scheduler", {})
        return parse_config(settings | parts)


@lru_cache(maxsize=4)
def load_table(folder: Path) -> Table:
    """The table that ``autometa bench record`` left in a folder.

    Raises:
        StudyError: There is none, it is damaged, too small, or not of a classification.
    """
    about, records = StudyFolder(folder).read_json(folder / ABOUT), load_records(folder)
    if about is None or len(records) < LEAST:
        raise StudyError(
            f"{str(folder)!r} has {len(records)} recorded trials, but needs {LEAST}: "
            "record some with `autometa bench record`"
        )
    if about["direction"] != MAXIMIZE:
        raise StudyError(f"{str(folder)!r} is of errors, but only accuracies are replayed")
    given = parse_config({"space": about["space"]}, f"{folder / ABOUT}")
    space = build_space(given.space, tuple(about["input_shape"]), CLASSIFICATION)
    return Table(folder.name, about, space, Surrogate(space, records), len(records))
