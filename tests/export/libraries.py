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
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from autometa.engine.train import TrainState, meta_train
from autometa.episodes import Task
from autometa.export.formats.base import Format, Winner
from autometa.learners.base import Learner, Params

UNREACHABLE = ("No matching distribution", "connection", "Temporary failure in name resolution")
EARLY, LATE = 0.1, 0.9
"""When in training the projects of gradient learners are asked for a meta-gradient."""
PIP = ("--quiet", "--disable-pip-version-check", "--retries", "1", "--timeout", "20")

# How scripts begin that use projects one after the other, each with modules of the same names.
WORK = f"""
import sys
from pathlib import Path
from safetensors.torch import load_file, save_file

def projects():
    for folder in sorted(path for path in Path(".").iterdir() if (path / "train.py").exists()):
        sys.path.insert(0, str(folder))
        import train
        task = [load_file(folder / "task.safetensors")[name] for name in ("sx", "sy", "qx", "qy")]
        yield folder, train, task
        sys.path.pop(0)
        for name in ("train", "method", "network", "layers", "settings", "episodes", "outer"):
            sys.modules.pop(name, None)
        sys.modules.pop("torchmeta_style", None)

def gradients(method, part):
    grads = {{n: p.grad for n, p in method.named_parameters() if p.grad is not None}}
    return {{f"{{part}}/{{name}}": grad.clone() for name, grad in grads.items()}}

def meta_gradients(train, method, task):
    found = {{}}
    for when, progress in (("early", {EARLY}), ("late", {LATE})):
        train.meta_gradient(method, [task], progress)
        found |= gradients(method, when)
    return found

def trained(train, method, task):
    for _ in train.train(method, iter([task] * 30), 3):
        pass
    return {{f"trained/{{name}}": p.detach() for name, p in method.named_parameters()}}

def conclude(folder, train, found):
    save_file({{k: v.contiguous() for k, v in found.items()}}, folder / "found.safetensors")
    out, data = str(folder / "new.safetensors"), f"{{train.settings.PROBLEM}}.safetensors"
    print(folder.name)
    train.main(["train", data, "--iterations", "2", "--out", out])
    train.main(["test", data, "--tasks", "5", "--weights", out])
"""


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
    return dict(zip(("sx", "sy", "qx", "qy"), task.tensors, strict=True))


def examples() -> dict[str, Tensor]:
    """Nine classes of five images that are much alike, as bytes."""
    torch.manual_seed(0)
    classes = torch.randint(0, 230, (9, 1, 1, 16, 16)) + torch.randint(0, 25, (9, 5, 1, 16, 16))
    images = classes.flatten(0, 1).to(torch.uint8)
    return {"x": images, "y": torch.arange(9).repeat_interleave(5)}


def at_work(
    python: Path,
    home: Path,
    form: Format,
    winners: Mapping[str, Winner],
    script: str,
    *options: str,
) -> Path:
    """Folders of a format, each with a task, and what a script made of them and printed."""
    for name, winner in winners.items():
        (home / name).mkdir()
        form.write(winner, home / name)
        save_file(named(task_of(winner)), home / name / "task.safetensors")
    save_file(examples(), home / "classification.safetensors")
    curves = {"x": torch.randn(4, 20, 1), "y": torch.randn(4, 20, 1)}
    save_file(curves, home / "regression.safetensors")
    (home / "use.py").write_text(script)
    (home / "printed.txt").write_text(run(python, home, *options, "use.py"))
    return home


def found(project: Path, case: str, part: str) -> dict[str, Tensor]:
    """A part of what came out there, under the names it has there."""
    held = load_file(project / case / "found.safetensors")
    return {n.partition("/")[2]: v for n, v in held.items() if n.startswith(f"{part}/")}


def prediction(learner: Learner[Any], params: Params, task: Task) -> Tensor:
    """What autometa predicts."""
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    output: Tensor = learner.predict(params, fast, task.query_x).detach()
    return output


def meta_trained(learner: Learner[Any], params: Params, task: Task, iterations: int = 3) -> Params:
    """What autometa learns of the same task again and again."""
    state = TrainState.start(learner, params, torch.Generator())
    for _ in meta_train(learner, state, source=Same(task), iterations=iterations, strategy="loop"):
        pass
    return state.params


class Same:
    """A source of the same task again and again."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        each = [value.expand(tasks, *value.shape) for value in self.task.tensors]
        return Task.of(each, self.task.ways)
