"""The pages on one's own data, learner and backbone: their programs run as they stand there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PAGES = {"own_data": "recordings", "own_learner": "means", "own_backbone": "patches"}

RUN = """
import os, runpy, sys
from autometa.search.cluster import QUIET
os.environ.update(QUIET)
import ray
quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
ray.init(num_cpus=1, **quiet, _system_config={"num_workers_soft_limit": 4})
for path in sys.argv[1:]:
    runpy.run_path(path, run_name="__main__")
"""


def program(page: str) -> str:
    """The one program of a page."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    return str(found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_at_most_forty_lines_of_code(page: str) -> None:
    lines = [line.strip() for line in program(page).splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 40


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the programs have run, one after the other as scripts of one process with one Ray."""
    home = tmp_path_factory.mktemp("pages")
    for page in PAGES:
        (home / f"{page}.py").write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-c", RUN, *(f"{page}.py" for page in PAGES)],
        cwd=home,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=400,
    )
    assert done.returncode == 0, done.stderr
    (home / "printed.txt").write_text(done.stdout)
    return home


@pytest.mark.parametrize(("page", "name"), PAGES.items())
def test_the_program_of_a_page_runs(place: Path, page: str, name: str) -> None:
    study = place / "trials" / name
    result = json.loads((study / "result.json").read_text())
    assert result["winner"]["test"]["tasks"] >= 50
    assert (study / "best" / "model.py").is_file()
    brought = {"own_data": "tasks.tasks", "own_learner": f"learner.{name}"}
    assert (study / "members" / f"{brought.get(page, f'backbone.{name}')}.pkl").is_file()


def test_what_the_programs_print_is_what_they_found(place: Path) -> None:
    printed = (place / "printed.txt").read_text()
    accuracy = re.search(r"^([\d.]+)$", printed, flags=re.M)
    assert accuracy
    assert float(accuracy[1]) > 1 / 5, "of five classes, on a task that the search never saw"
    assert "means.temperature" in printed
    assert "patches.activation" in printed
