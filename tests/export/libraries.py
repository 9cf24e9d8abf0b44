"""Other libraries, really installed: each in a virtual environment of its own.

What runs here, torch above all, is lent to it, so that the index is only asked for what is new.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autometa.episodes import Task
from autometa.export.formats.base import Winner

UNREACHABLE = ("No matching distribution", "connection", "Temporary failure in name resolution")
PIP = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")


def environment(home: Path, *requirements: str, options: tuple[str, ...] = ()) -> Path:
    """Its interpreter; the test is skipped where pip can't reach an index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lent = Path(sysconfig.get_path("purelib"))
    inner = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(inner.stdout.strip()) / "lent.pth").write_text(str(lent))
    if requirements:
        wanted = [f"torch=={version('torch')}", *requirements]
        pip(python, "install", "--no-compile", *options, *wanted)
    return python


def pip(python: Path, command: str, *arguments: str) -> None:
    """Run pip for an interpreter, and skip where there is no index."""
    line = [sys.executable, "-m", "pip", "--python", str(python), command, *PIP, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"pip can't fetch {' '.join(arguments)}: {last}")
    assert done.returncode == 0, done.stderr


def run(python: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """What a script prints when it is run in a folder; anything but success is an error."""
    outer: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**outer, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def imported(folder: Path) -> set[str]:
    """The packages that the Python files below a folder import."""
    found = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found.add(node.module or "")
    return {name.partition(".")[0] for name in found}


def task_of(winner: Winner) -> Task:
    torch.manual_seed(1)
    if winner.learner.problem == "regression":
        return Task(*(torch.randn(n, 1) for n in (5, 5, 7, 7)), ways=1)
    x, queries = torch.rand(6, 1, 16, 16), torch.rand(9, 1, 16, 16)
    y, query_y = torch.arange(3).repeat(2), torch.arange(3).repeat(3)
    return Task(x, y, queries, query_y, ways=3)


def named(task: Task) -> dict[str, Tensor]:
    """A task's tensors for a file."""
    names = ("sx", "sy", "qx", "qy")
    tensors = (task.support_x, task.support_y, task.query_x, task.query_y)
    return dict(zip(names, tensors, strict=True))


def examples() -> dict[str, Tensor]:
    """Nine classes of five images that are much alike, as bytes."""
    torch.manual_seed(0)
    classes = torch.randint(0, 230, (9, 1, 1, 16, 16)) + torch.randint(0, 25, (9, 5, 1, 16, 16))
    images = classes.flatten(0, 1).to(torch.uint8)
    return {"x": images, "y": torch.arange(9).repeat_interleave(5)}


class Same:
    """A source of the same task again and again."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        each = (self.task.support_x, self.task.support_y, self.task.query_x, self.task.query_y)
        return Task(*(value.expand(tasks, *value.shape) for value in each), ways=self.task.ways)
