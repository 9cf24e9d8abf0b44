"""What a killed or interrupted search loses: nothing."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

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
pytestmark = [  # Optuna leaves SQLite connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

SLOW = {
    "space": {"learners": {"maml": {"meta_batch": 1}}},
    "budget": {"trials": 5, "iterations": 600},
    "validation": {"every": 50},
    "scheduler": {"grace": 200, "reduction_factor": 2},
    "finalists": {"count": 1, "seeds": 1},
}
DRIVER = """
import json, sys
from pathlib import Path
from autometa.config import parse_config
from autometa.search import run
from autometa.search.events import Interrupted
try:
    if sys.argv[1] == "search":
        run.search(parse_config(json.loads(sys.argv[2])))
    else:
        run.resume(Path(sys.argv[2]))
except Interrupted as stop:
    sys.exit(130)
"""


def drive(verb: str, argument: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, verb, argument], stderr=subprocess.PIPE, text=True
    )


def kill(process: subprocess.Popen[str]) -> None:
    """``kill -9``. Ray's own processes hold the other end of the pipe a little longer."""
    process.kill()
    process.wait()
    assert process.stderr is not None
    process.stderr.close()


def finish(process: subprocess.Popen[str], code: int = 0) -> None:
    _, errors = process.communicate(timeout=900)
    assert process.returncode == code, errors


def trials_of(config: StudyConfig) -> list[TrialRow]:
    if not StudyFolder(config.folder).database.exists():
        return []
    try:
        return rows_of(load_optuna_study(config))
    except StudyError:
        return []


def wait_until(
    process: subprocess.Popen[str], config: StudyConfig, met: Callable[[list[TrialRow]], bool]
) -> list[TrialRow]:
    while process.poll() is None:
        trials = trials_of(config)
        if met(trials):
            return trials
        time.sleep(0.05)
    raise AssertionError("the search ended before it was seen there")


def midway(trials: list[TrialRow]) -> bool:
    """A trial has ended, another has reported and still runs."""
    running = [t.end == RUNNING for t in trials]
    return not all(running) and any(t.end == RUNNING and t.curve for t in trials)


def outcome(config: StudyConfig) -> list[Any]:
    return [(t.number, t.params, t.curve, t.end) for t in trials_of(config)]


def as_json(config: StudyConfig) -> str:
    return json.dumps(config.model_dump(mode="json"))


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[Any]:
    """The trials of the same search when nothing happens to it."""
    from small_studies import SMALL, merged

    from autometa.config import parse_config

    out = str(tmp_path_factory.mktemp("undisturbed") / "study")
    config = parse_config(merged(SMALL, SLOW | {"out": out}))
    finish(drive("search", as_json(config)))
    return outcome(config)


def test_kill_9_loses_nothing(small: Make, undisturbed: list[Any]) -> None:
    config = small(**SLOW)
    process = drive("search", as_json(config))
    before = wait_until(process, config, midway)
    kill(process)
    ended = [t for t in trials_of(config) if t.end != RUNNING]
    finish(drive("resume", str(config.folder)))
    after = trials_of(config)
    assert after[: len(ended)] == ended, "finished trials are kept as they were"
    assert len(after) == config.budget.trials == len({t.number for t in after})
    assert all(t.end != RUNNING for t in after)
    assert len(before) <= len(after)
    assert outcome(config) == undisturbed, "even the sampler and the scheduler go on as before"
    assert StudyFolder(config.folder).read_result() is not None


@pytest.mark.parametrize("sign", [signal.SIGINT])
def test_ctrl_c_stops_cleanly_and_can_be_resumed(
    small: Make, undisturbed: list[Any], sign: signal.Signals
) -> None:
    config = small(**SLOW)
    process = drive("search", as_json(config))
    wait_until(process, config, midway)
    os.kill(process.pid, sign)
    finish(process, code=130)
    assert not StudyFolder(config.folder).running()
    finish(drive("resume", str(config.folder)))
    assert outcome(config) == undisturbed


@pytest.mark.parametrize("database", [False, True])
def test_a_study_that_died_before_its_first_trial_begins(small: Make, database: bool) -> None:
    config = small(finalists={"count": 1, "seeds": 1})
    create_folder(config, {"fingerprint": plan(config).data.fingerprint})
    if database:  # made, but the study not yet in it
        storage_of(config)
    finish(drive("resume", str(config.folder)))
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


def test_two_processes_cannot_drive_one_study(small: Make) -> None:
    config = small(**SLOW)
    process = drive("search", as_json(config))
    try:
        wait_until(process, config, lambda trials: len(trials) >= 1)
        assert StudyFolder(config.folder).running()
        second = drive("resume", str(config.folder))
        _, errors = second.communicate(timeout=600)
        assert second.returncode == 1
        assert "is being run by another process" in errors
    finally:
        kill(process)


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
