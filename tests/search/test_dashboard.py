"""Ray's dashboard during a search: it answers, asks for its token, and names the trials."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from autometa.config import StudyConfig

DRIVER = """
import json, sys
from autometa.config import parse_config
from autometa.search import run
from autometa.search.events import SearchStarted
def watch(event):
    if isinstance(event, SearchStarted):
        print(event.dashboard, flush=True)
run.search(parse_config(json.loads(sys.argv[1])), watch)
"""
LONG = {"budget": {"iterations": 100_000}, "scheduler": {"name": "none"}}
PATIENCE_S = 60


@pytest.fixture
def dashboard(small: Callable[..., StudyConfig]) -> Iterator[str]:
    """The dashboard's URL while a search runs."""
    config = json.dumps(small(**LONG).model_dump(mode="json"))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, config], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    with driver.stdout:
        yield driver.stdout.readline().strip()
        driver.kill()
        driver.wait()


def get(url: str, token: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def test_the_dashboard_works_and_shows_trials_by_name(dashboard: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", dashboard)
    assert "<html" in get(dashboard)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(f"{dashboard}/nodes?view=summary")
    token = (Path.home() / ".ray" / "auth_token").read_text()
    (node,) = json.loads(get(f"{dashboard}/nodes?view=summary", token))["data"]["summary"]
    details = f"{dashboard}/nodes/{node['raylet']['nodeId']}"
    deadline = time.monotonic() + PATIENCE_S
    while "ray::maml-mlp-000" not in get(details, token):
        assert time.monotonic() < deadline, "no worker is titled after its trial"
        time.sleep(1)
