"""Ray's dashboard during a search: it opens logged in, names the trials, exports their figures."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.cookiejar import CookieJar
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from browser import browse

from autometa.config import StudyConfig

DRIVER = """
import json, sys
from autometa.config import parse_config
from autometa.search import run
from autometa.search.events import SearchStarted
def watch(event):
    if isinstance(event, SearchStarted):
        print(event.links.dashboard, event.links.login, flush=True)
run.search(parse_config(json.loads(sys.argv[1])), watch)
"""
LONG: dict[str, Any] = {
    "budget": {"iterations": 100_000},
    "scheduler": {"name": "none"},
    "name": "shown",
}
PATIENCE_S = 60
FORGOTTEN_S = 25


@dataclass(frozen=True)
class Shown:
    """A search that runs, with the addresses that it tells."""

    dashboard: str
    login: str
    folder: Path


@pytest.fixture(scope="module")
def shown(
    small_in: Callable[..., StudyConfig], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("shown")
    config = json.dumps(small_in(folder, **LONG).model_dump(mode="json"))
    driver = subprocess.Popen(
        [sys.executable, "-c", DRIVER, config], stdout=subprocess.PIPE, text=True
    )
    assert driver.stdout is not None
    with driver.stdout:
        dashboard, login = driver.stdout.readline().split()
        yield Shown(dashboard, login, folder / "study")
        driver.kill()
        driver.wait()


def get(url: str, token: str | None = None) -> str:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=20) as answer:
        return str(answer.read().decode())


def patiently(found: Callable[[], bool], lacking: str) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline, lacking
        time.sleep(1)


@pytest.fixture(scope="module")
def token(shown: Shown) -> str:
    return (Path.home() / ".ray" / "auth_token").read_text()


def node(shown: Shown, token: str) -> Any:
    (only,) = json.loads(get(f"{shown.dashboard}/nodes?view=summary", token))["data"]["summary"]
    return only


def test_the_dashboard_works_and_shows_trials_by_name(shown: Shown, token: str) -> None:
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+", shown.dashboard)
    assert "<html" in get(shown.dashboard)
    with pytest.raises(urllib.error.HTTPError, match="401"):
        get(f"{shown.dashboard}/nodes?view=summary")
    details = f"{shown.dashboard}/nodes/{node(shown, token)['raylet']['nodeId']}"
    patiently(
        lambda: "ray::maml-mlp-000" in get(details, token), "no worker is titled after its trial"
    )


def test_the_link_logs_in_and_tells_the_token_to_nobody_else(shown: Shown, token: str) -> None:
    assert token not in shown.login
    for wrong in ("/", f"/{token}", "/x" * 30):
        with pytest.raises(urllib.error.HTTPError, match="404"):
            get(shown.login.rpartition("/")[0] + wrong)
    cookies = urllib.request.HTTPCookieProcessor(CookieJar())
    opener = urllib.request.build_opener(cookies)
    assert "<html" in opener.open(shown.login, timeout=20).read().decode()
    (cookie,) = cookies.cookiejar
    assert cookie.has_nonstandard_attr("HttpOnly")
    assert cookie.get_nonstandard_attr("SameSite") == "Strict"
    assert (
        "summary"
        in opener.open(f"{shown.dashboard}/nodes?view=summary", timeout=20).read().decode()
    )


def test_a_browser_opens_it_logged_in(shown: Shown, tmp_path: Path) -> None:
    document, _ = browse(shown.login, tmp_path / "in")
    assert "Recent jobs" in document
    document, _ = browse(shown.dashboard, tmp_path / "out")
    assert "Recent jobs" not in document or "token" in document.lower()


def test_metrics_are_exported_under_the_names_that_grafana_asks_for(
    shown: Shown, token: str
) -> None:
    address = node(shown, token)
    scrape = f"http://{address['ip']}:{address['raylet']['metricsExportPort']}/metrics"
    names = set(
        re.findall(
            r"ray_autometa_\w+", files("autometa.report").joinpath("grafana.json").read_text()
        )
    )
    # No trial completes here, and none has a GPU.
    known = names - {"ray_autometa_best_score", "ray_autometa_gpu_memory_bytes"}
    assert len(known) == 2
    patiently(lambda: all(name in get(scrape) for name in known), "metrics are missing")
    time.sleep(FORGOTTEN_S)  # what isn't said again
    lines = get(scrape).splitlines()
    (running,) = (
        line for line in lines if line.startswith("ray_autometa_trials{") and '"running"' in line
    )
    assert 'study="shown"' in running
    assert float(running.split()[-1]) >= 1
    speeds = [line for line in lines if line.startswith("ray_autometa_tasks_per_second{")]
    assert any('trial="maml-mlp-000"' in line for line in speeds)
    assert all(float(line.split()[-1]) > 0 for line in speeds)
