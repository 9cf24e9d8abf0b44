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


def program(page: str) -> str:
    """The one program of a page."""
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    (found,) = re.findall(r"^```python\n(.*?)^```$", text, flags=re.M | re.S)
    return str(found)


@pytest.mark.parametrize("page", PAGES)
def test_a_page_has_at_most_forty_lines_of_code(page: str) -> None:
    lines = [line.strip() for line in program(page).splitlines()]
    assert len([line for line in lines if line and not line.startswith("#")]) <= 40


@pytest.mark.parametrize("page", PAGES)
def test_the_program_of_a_page_runs(page: str, tmp_path: Path) -> None:
    (tmp_path / "page.py").write_text(program(page), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    study = tmp_path / "trials" / PAGES[page]
    result = json.loads((study / "result.json").read_text())
    assert result["winner"]["test"]["tasks"] > 0
    assert (study / "best" / "model.py").is_file()
    assert (study / "members").is_dir()
    if page == "own_data":
        accuracy = float(done.stdout.splitlines()[-1])
        assert accuracy >= 1 / 5, "of five classes, on a task that the search never saw"
