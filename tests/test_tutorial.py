"""The notebook runs as it stands; and a learner that a notebook's cell defines can leave it."""

from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from autometa.export.vendor import learner_sources

ROOT = Path(__file__).parents[1]
# Of the kernel's own machinery, none of which is ours.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]
MINE = """
import autometa as am
from autometa.learners.protonet import ProtoNet

FACTOR = 3.0

@am.register_learner("mine")
class Mine(ProtoNet):
    factor = FACTOR
"""
SEND = """
from pathlib import Path
from autometa.config import parse_config
from autometa.search.members import pickled

for name, content in pickled(parse_config({"space": {"learners": ["mine"]}})).items():
    Path(name).write_bytes(content)
"""


def run(notebook: Any, where: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Execute all cells in a folder, in a kernel of this very Python."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    monkeypatch.setenv("JUPYTER_PATH", os.path.join(sys.prefix, "share", "jupyter"))
    client = NotebookClient(
        notebook, timeout=400, kernel_name="python3", resources={"metadata": {"path": str(where)}}
    )
    return client.execute()


def test_the_tutorial_runs_and_shows_a_frame_for_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.read(ROOT / "docs" / "tutorial.ipynb", as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    done = run(notebook, tmp_path, monkeypatch)
    shown = {
        cell.source.splitlines()[-1]: {kind for out in cell.outputs for kind in out.get("data", ())}
        for cell in done.cells
        if cell.cell_type == "code"
    }
    assert "text/html" in shown["study.importances"]
    assert "text/html" in shown["study.pareto"]
    assert sum("text/html" in kinds for kinds in shown.values()) >= 5
    assert any("image/png" in kinds for kinds in shown.values()), "the curves are drawn"
    assert (tmp_path / "trials" / "tutorial" / "report.html").is_file()


def test_a_learner_of_a_cell_travels_and_has_a_source(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook = nbformat.v4.new_notebook()
    notebook.cells = [nbformat.v4.new_code_cell(each) for each in (MINE, SEND)]
    run(notebook, tmp_path, monkeypatch)
    mine = pickle.loads((tmp_path / "learner.mine.pkl").read_bytes())
    assert (mine.__name__, mine.factor) == ("Mine", 3.0)
    source = learner_sources(mine)["mine.py"]
    assert "FACTOR = 3.0" in source
    assert "register_learner" not in source
