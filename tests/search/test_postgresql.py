"""A study in a real PostgreSQL, started for these tests where its server is installed."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search import run
from autometa.search.study import RUNNING, load_optuna_study, rows_of

PASSWORD = "s3cret-of-the-test"
pytestmark = RAY_WARNINGS


def server_programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, which Debian keeps off the path."""
    found = shutil.which("pg_ctl")
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    return Path(found).parent if found else debian[-1].parent if debian else None


def as_nobody(*command: object) -> None:
    """PostgreSQL refuses to run as root."""
    words = [str(word) for word in command]
    if os.geteuid() == 0:
        words = ["runuser", "-u", "nobody", "--", *words]
    subprocess.run(words, check=True, capture_output=True, cwd="/")


@pytest.fixture(scope="module")
def postgresql() -> Iterator[str]:
    """The URL of an empty database, password included."""
    programs = server_programs()
    if programs is None:
        pytest.skip("no PostgreSQL server is installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    home = Path(tempfile.mkdtemp(prefix="autometa-postgresql-"))
    home.chmod(0o777)
    secret = home / "password"
    secret.write_text(PASSWORD)
    data = home / "data"
    options = f"-p {port} -c listen_addresses=127.0.0.1 -k {home}"
    as_nobody(programs / "initdb", "-D", data, "-U", "me", "-A", "md5", f"--pwfile={secret}")
    as_nobody(programs / "pg_ctl", "-D", data, "-o", options, "-l", home / "log", "-w", "start")
    try:
        yield f"postgresql://me:{PASSWORD}@127.0.0.1:{port}/postgres"
    finally:
        as_nobody(programs / "pg_ctl", "-D", data, "-m", "immediate", "stop")
        shutil.rmtree(home, ignore_errors=True)


def test_a_study_lives_in_the_database(
    ray_here: None, small: Callable[..., StudyConfig], postgresql: str
) -> None:
    config = small(storage=postgresql, name="elsewhere")
    folder = run.search(config)
    trials = rows_of(load_optuna_study(config))
    assert len(trials) == config.budget.trials
    assert all(trial.end != RUNNING for trial in trials)
    assert not folder.database.exists()
    leaked = [
        path
        for path in folder.path.rglob("*")
        if path.is_file() and PASSWORD.encode() in path.read_bytes()
    ]
    assert not leaked
    with pytest.raises(StudyError, match="passwords aren't kept"):
        run.resume(folder.path)
    result = folder.result.read_text()
    run.resume(folder.path, storage=postgresql)
    assert folder.result.read_text() == result


def test_a_name_that_the_database_knows_is_refused(
    ray_here: None, small: Callable[..., StudyConfig], postgresql: str
) -> None:
    config = small(storage=postgresql, name="elsewhere", out=str(small().folder) + "-again")
    with pytest.raises(StudyError, match="holds a study named 'elsewhere' already"):
        run.search(config)
    assert not config.folder.exists()
