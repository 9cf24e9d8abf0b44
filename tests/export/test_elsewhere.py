"""Bundles at work where autometa isn't: a clean virtual environment, another project's folder."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

pytestmark = pytest.mark.slow

Task = tuple[Tensor, Tensor, Tensor]  # support_x, support_y, query_x
Study = Callable[[str], Any]  # the conftest's: case → a study that has ended

# The very build that runs here: of another, pip may bring gigabytes for other hardware.
PACKAGES = (f"torch=={version('torch')}", "safetensors", "numpy")
UNREACHABLE = ("No matching distribution", "connection", "Temporary failure in name resolution")
ABSENT = ("autometa", "nni", "ray", "optuna")
SIZE = (1, 16, 16)

PROJECT = """
import importlib, importlib.util, json
from pathlib import Path
from safetensors.torch import load_file, save_file
from best import load  # as the model card has it

def attempt(learner, x, y, queries):
    try:
        learner.adapt(x, y)(queries)
    except ValueError as error:
        return str(error)
    return "accepted"

def work(learner, folder):
    tensors, outputs, refusals = load_file(folder / "tasks.safetensors"), {}, {}
    for name in json.loads((folder / "names.json").read_text()):
        x, y, queries = (tensors[f"{name}.{part}"] for part in ("x", "y", "queries"))
        if name.startswith("wrong"):
            refusals[name] = attempt(learner, x, y, queries)
        else:
            outputs[name] = learner.adapt(x, y)(queries)
    save_file(outputs, folder / "outputs.safetensors")
    (folder / "refusals.json").write_text(json.dumps(refusals))

work(load(), Path("."))
for case in CASES:
    work(importlib.import_module(f"{case}.best").load(), Path(case))
print([name for name in ABSENT if importlib.util.find_spec(name)])
"""


def images(*shape: int) -> Tensor:
    """Whole numbers of 0 … 255: the same picture as bytes and as floats."""
    return torch.randint(0, 256, (*shape, *SIZE), dtype=torch.uint8)


def floats(task: Task) -> Task:
    return task[0].float() / 255, task[1], task[2].float() / 255


def classification(ways: int) -> dict[str, Task]:
    """Tasks of the ways that the learner was trained for, and tasks that are none."""
    one, more = torch.randperm(ways), torch.tensor([*range(ways), 0, 0, 1])
    x, queries = images(ways), images(4)
    fine = {"as bytes": (x, one, queries), "as floats": floats((x, one, queries))}
    fine["with other shots"] = floats((images(len(more)), more, images(7)))
    x, _, queries = floats((x, one, queries))
    wrong = {
        "wrong size": (x[..., 1:], one, queries),
        "wrong size of queries": (x, one, queries[..., 1:]),
        "wrong rank": (x[0], one, queries),
        "wrong number of labels": (x, one[1:], queries),
        "wrong type of labels": (x, one.float(), queries),
        "wrong shape of labels": (x, one[:, None], queries),
        "wrong first label": (x, one + 1, queries),
        "wrong sign of a label": (x, one - 1, queries),
        "wrong labels, one unused": (x, 2 * one, queries),
        "wrong: nothing": (x[:0], one[:0], queries),
    }
    return fine | wrong


def regression() -> dict[str, Task]:
    x, y, queries = torch.randn(5, 1), torch.randn(5, 1), torch.randn(8, 1)
    return {
        "as trained": (x, y, queries),
        "with other shots": (torch.randn(9, 1), torch.randn(9, 1), queries),
        "wrong size": (x.repeat(1, 2), y, queries),
        "wrong size of queries": (x, y, queries[:, 0]),
        "wrong shape of targets": (x, y[:, 0], queries),
        "wrong number of targets": (x, y[1:], queries),
        "wrong: nothing": (x[:0], y[:0], queries),
    }


def tasks_of(case: str) -> dict[str, Task]:
    torch.manual_seed(3)
    if case == "maml-regression":
        return regression()
    tasks = classification(3)
    other = floats((images(10), torch.arange(5).repeat(2), images(6)))
    return tasks | {"with other ways" if case.startswith("protonet") else "wrong ways": other}


@pytest.fixture(scope="session")
def clean_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The interpreter of a virtual environment with torch, safetensors and NumPy alone."""
    home = tmp_path_factory.mktemp("clean") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True, timeout=120)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    pip = [str(python), "-m", "pip", "install", "--quiet", "--no-compile", "--retries", "1"]
    done = subprocess.run([*pip, *PACKAGES], capture_output=True, text=True, timeout=900)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"pip can't fetch {' '.join(PACKAGES)} for a clean environment: {last}")
    assert done.returncode == 0, done.stderr
    return python


def pack(tasks: dict[str, Task], project: Path) -> None:
    parts = ("x", "y", "queries")
    tensors = {
        f"{name}.{part}": tensor.clone().contiguous()
        for name, task in tasks.items()
        for part, tensor in zip(parts, task, strict=True)
    }
    save_file(tensors, project / "tasks.safetensors")
    (project / "names.json").write_text(json.dumps(list(tasks)))


@pytest.fixture(scope="session")
def project(
    clean_python: Path, study: Study, cases: list[str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Another project, with a folder a case: its bundle, its tasks, and what came out there."""
    home = tmp_path_factory.mktemp("project")
    for case, folder in [("protonet", home), *((case, home / case) for case in cases)]:
        study(case).write(folder / "best")
        pack(tasks_of(case), folder)
    script = f"ABSENT, CASES = {ABSENT!r}, {cases!r}\n{PROJECT}"
    (home / "use.py").write_text(script, encoding="utf-8")
    outer = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    command = [str(clean_python), "-W", "error", "use.py"]
    done = subprocess.run(command, cwd=home, env=outer, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "[]\n", "these are importable in the clean environment"
    return home


def test_a_bundle_gives_the_same_predictions_elsewhere(
    project: Path, study: Study, case: str
) -> None:
    check(project / case, study(case), tasks_of(case))


def test_it_does_at_the_top_of_a_project(project: Path, study: Study) -> None:
    check(project, study("protonet"), tasks_of("protonet"))


def check(folder: Path, made: Any, tasks: dict[str, Task]) -> None:
    outputs = load_file(folder / "outputs.safetensors")
    assert set(outputs) == {name for name in tasks if not name.startswith("wrong")}
    for name, output in outputs.items():
        task = floats(tasks[name]) if tasks[name][0].dtype == torch.uint8 else tasks[name]
        torch.testing.assert_close(output, made.output(*task), rtol=0, atol=1e-5)
    if "as bytes" in outputs:
        assert torch.equal(outputs["as bytes"], outputs["as floats"])
    check_refusals(json.loads((folder / "refusals.json").read_text()), tasks)


def check_refusals(refusals: dict[str, str], tasks: dict[str, Task]) -> None:
    assert set(refusals) == {name for name in tasks if name.startswith("wrong")}
    assert [name for name, told in refusals.items() if told == "accepted"] == []
    for told in refusals.values():
        assert "\n" not in told
        assert "must" in told or "give" in told
