"""Optuna's dashboard on a study's database, in a real browser."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import browser
import optuna
import pytest

from autometa.errors import StudyError
from autometa.report.optuna_board import serve
from autometa.search.folder import StudyFolder, create_folder
from autometa.search.study import create_study, storage_of

PATIENCE_S = 60
NAME = "shown-by-optuna"


@pytest.fixture
def folder(tmp_path: Path) -> StudyFolder:
    """A study of two trials on disk."""
    from autometa.config import parse_config

    config = parse_config({"name": NAME, "out": str(tmp_path / "study")})
    made = create_folder(config, {}, None)
    study = create_study(config, storage_of(config), "maximize")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=2)
    return made


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def url(folder: StudyFolder) -> Iterator[str]:
    """Of the command, once it answers."""
    port = free_port()
    command = [sys.executable, "-m", "autometa.cli", "dashboard", str(folder.path)]
    with subprocess.Popen(
        [*command, "--port", str(port)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as process:
        assert process.stdout is not None
        told = process.stdout.readline().split()[0]
        assert told == f"http://127.0.0.1:{port}/dashboard"
        deadline = time.monotonic() + PATIENCE_S
        while not answers(told):
            assert time.monotonic() < deadline, "it doesn't answer"
            time.sleep(0.2)
        yield told
        process.terminate()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def test_a_browser_shows_the_study(url: str, tmp_path: Path) -> None:
    document, console = browser.browse(url, tmp_path)
    assert NAME in document
    assert not [line for line in console if "ERROR" in line]


def test_a_port_that_is_taken_is_told() -> None:
    storage = optuna.storages.InMemoryStorage()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(StudyError, match=f"--port is {port}"):
            serve(storage, port)


def test_without_the_package_it_is_told_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "optuna_dashboard", None)
    with pytest.raises(StudyError, match=r"autometa\[dashboard\]"):
        serve(optuna.storages.InMemoryStorage(), 1)


Run = Callable[..., Any]


def test_grafana_prints_a_dashboard(autometa: Run) -> None:
    board = json.loads(autometa("grafana").out)
    assert board["title"] == "autometa"
    titles = [panel["title"] for panel in board["panels"]]
    assert len(titles) >= 6
    assert {panel["datasource"]["uid"] for panel in board["panels"]} == {"${datasource}"}


def test_grafanas_dashboard_is_written_whole_or_not_at_all(autometa: Run, tmp_path: Path) -> None:
    autometa("grafana", "--to", tmp_path / "board.json")
    assert (tmp_path / "board.json").read_text() == autometa("grafana").out
    refused = autometa("grafana", "--to", tmp_path / "nowhere" / "board.json")
    assert refused.code == 2
    assert "--to" in refused.err
