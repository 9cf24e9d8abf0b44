"""What a search loses that another process drives and that is killed or interrupted: nothing."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search import run
from autometa.search.folder import StudyFolder
from autometa.search.study import RUNNING, TrialRow, load_optuna_study, rows_of

Make = Callable[..., StudyConfig]
pytestmark = RAY_WARNINGS

SLOW: dict[str, Any] = {
    "space": {"learners": {"maml": {"meta_batch": 1}}},
    "budget": {"trials": 5, "iterations": 300},
    "validation": {"every": 25},
    "scheduler": {"grace": 100, "reduction_factor": 2},
    "finalists": {"count": 1, "seeds": 1},
    "baseline": None,
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
def undisturbed(
    ray_here: None, small_in: Make, tmp_path_factory: pytest.TempPathFactory
) -> list[Any]:
    """The trials of the same search when nothing happens to it."""
    config = small_in(tmp_path_factory.mktemp("undisturbed"), **SLOW)
    run.search(config)
    return outcome(config)


def test_kill_9_loses_nothing(small: Make, undisturbed: list[Any]) -> None:
    """Resumed as it was begun, by a process with a Ray of its own."""
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
    run.resume(config.folder)
    assert outcome(config) == undisturbed


def test_two_processes_cannot_drive_one_study(small: Make) -> None:
    config = small(**SLOW)
    process = drive("search", as_json(config))
    try:
        wait_until(process, config, lambda trials: len(trials) >= 1)
        assert StudyFolder(config.folder).running()
        with pytest.raises(StudyError, match="is being run by another process"):
            run.resume(config.folder)
    finally:
        kill(process)
