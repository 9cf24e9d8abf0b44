"""Studies that a process left behind in any state, and what a study folder must have."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search import run
from autometa.search.folder import StudyFolder, create_folder
from autometa.search.plan import plan
from autometa.search.searcher import StudySearcher
from autometa.search.study import (
    COMPLETE,
    PRUNED,
    RUNNING,
    TrialRow,
    create_study,
    load_optuna_study,
    report_score,
    rows_of,
    storage_of,
)

Make = Callable[..., StudyConfig]
pytestmark = RAY_WARNINGS


def trials_of(config: StudyConfig) -> list[TrialRow]:
    return rows_of(load_optuna_study(config))


@pytest.mark.parametrize("database", [False, True])
def test_a_study_that_died_before_its_first_trial_begins(
    ray_here: None, small: Make, database: bool
) -> None:
    config = small(finalists={"count": 1, "seeds": 1}, baseline=None)
    create_folder(config, {"fingerprint": plan(config).data.fingerprint})
    if database:  # made, but the study not yet in it
        storage_of(config)
    run.resume(config.folder)
    assert len(trials_of(config)) == config.budget.trials
    assert StudyFolder(config.folder).read_result() is not None


def test_a_database_is_there_whole_or_not_at_all(small: Make) -> None:
    """Who looks at a study that is just being made neither fails nor makes it fail."""
    config = small()
    config.folder.mkdir()
    path, seen, made = StudyFolder(config.folder).database, list[Any](), threading.Event()

    def look() -> None:
        while not path.exists():
            pass
        database = sqlite3.connect(path)
        seen.extend(database.execute("select count(*) from version_info").fetchall())
        seen.extend(database.execute("select count(*) from alembic_version").fetchall())
        database.close()
        made.set()

    threading.Thread(target=look, daemon=True).start()
    storage_of(config)
    assert made.wait(60)
    assert seen == [(1,), (1,)]
    assert [each.name for each in config.folder.iterdir()] == ["study.db"]


@pytest.mark.parametrize("end", [COMPLETE, PRUNED])
def test_a_trial_whose_end_was_being_written_has_ended(small: Make, end: str) -> None:
    """Its driver died between the attribute and the state."""
    config = small(budget={"trials": 2})
    folder = create_folder(config, {"fingerprint": "none"})
    study = create_study(config, storage_of(config), "minimize")
    planned = plan(config)
    dead = study.ask()
    candidate = asdict(planned.space.sample(dead))
    for name, value in (("candidate", candidate), ("reason", ""), ("end", end)):
        dead.set_user_attr(name, value)
    report_score(dead, 1.0, 24)

    def trial_config(number: int, candidate: dict[str, Any]) -> dict[str, Any]:
        return {"number": number}

    searcher = StudySearcher(study, planned.space, config, trial_config, lambda event: None)
    assert searcher.suggest("a") == {"number": 1}
    assert searcher.suggest("b") == "FINISHED"
    assert [(t.end, t.score) for t in trials_of(config)] == [(end, 1.0), (RUNNING, None)]
    assert study.trials[0].state.name == end.upper()
    assert folder.path.exists()


@pytest.mark.parametrize(
    ("prepare", "message"),
    [
        (lambda path: None, "doesn't exist"),
        (lambda path: path.mkdir(), "has no study.yaml"),
        (lambda path: damaged(path, "{"), "can't be read"),
        (lambda path: damaged(path, "config: 3"), "holds no study configuration"),
        (lambda path: damaged(path, "config: {seed: many}"), "field 'seed' is 'many'"),
        (lambda path: damaged(path, "config: {}"), "has no study.db"),
    ],
)
def test_damaged_folders_are_named(
    tmp_path: Path, prepare: Callable[[Path], None], message: str
) -> None:

    prepare(tmp_path / "study")
    with pytest.raises(StudyError, match=message):
        run.resume(tmp_path / "study")


def damaged(path: Path, text: str) -> None:
    path.mkdir()
    (path / "study.yaml").write_text(text)
