"""What the shell offers, asked as the shell asks; and the help of every command."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path
from typing import Any

import pytest
import typer
from test_docs import commands

from autometa.backbones import BACKBONES
from autometa.cli import app
from autometa.config import field_names, load_config, shipped_spaces
from autometa.episodes import DATASETS
from autometa.learners import LEARNERS

LIGHT = """
import atexit, sys
sys.argv = ["autometa"]
heavy = {"torch", "ray", "nni", "optuna", "pandas", "scipy"}
atexit.register(lambda: print(heavy & set(sys.modules) or "light", file=sys.stderr))
from autometa.cli import main
main()
"""


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with studies and other things in it."""
    monkeypatch.chdir(tmp_path)
    for study in ("trials/first", "trials/ours/second", "elsewhere/third"):
        (tmp_path / study / "best").mkdir(parents=True)
        (tmp_path / study / "study.yaml").touch()
    (tmp_path / "trials/no_study").mkdir()
    (tmp_path / "my_space.yaml").touch()
    return tmp_path


def offered(*words: str) -> list[str]:
    """What bash offers for the last of these words."""
    asked = {
        "_AUTOMETA_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["autometa", *words]),
        "COMP_CWORD": str(len(words)),
    }
    ended = subprocess.run(
        [sys.executable, "-c", LIGHT],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | asked,
    )
    assert ended.stderr.strip() == "light", "whoever presses tab doesn't wait"
    return ended.stdout.split()


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("search", "maml"), [name for name in shipped_spaces() if name.startswith("maml")]),
        (("search", "my"), ["my_space.yaml"]),
        (("learners", ""), list(LEARNERS)),
        (("learners", "proto"), ["protomaml", "protonet"]),
        (("backbones", "c"), [name for name in BACKBONES if name.startswith("c")]),
        (("data", "show", ""), list(DATASETS)),
        (("status", ""), ["trials/first", "trials/ours/second"]),
        (("watch", "trials/f"), ["trials/first"]),
        (("resume", "elsewhere/"), ["elsewhere/third"]),
        (("search", "quickstart", "--warm-start", "trials/o"), ["trials/ours/second"]),
        (("export", "trials/first", "--config-only", ""), ["json", "toml", "yaml"]),
        (("search", "quickstart", "--set", "scheduler.n"), ["scheduler.name="]),
        (("export", "trials/first", "--format", "b"), ["bundle"]),
        (("doc",), ["doctor"]),
    ],
)
def test_the_shell_offers_what_there_is(
    place: Path, words: tuple[str, ...], expected: list[str]
) -> None:
    assert expected
    assert offered(*words) == expected


# Field → a value that quickstart doesn't have.
OTHERS: dict[str, Any] = {
    "name": "mine",
    "seed": 3,
    "data.name": "omniglot",
    "data.options": {"seed": 1},
    "task.ways": 4,
    "task.shots": 2,
    "task.queries": 6,
    "task.within_groups": True,
    "task.train_within_groups": True,
    "space.learners": {"maml": {}},
    "space.backbones": {"conv4": {}},
    "space.limits.max_parameters": 50000,
    "space.limits.max_macs": 10000,
    "space.limits.max_latency_ms": 2.5,
    "objectives": ["accuracy", "macs"],
    "budget.trials": 17,
    "budget.time": 30.0,
    "budget.iterations": 240,
    "budget.trial_time": 20.0,
    "validation.every": 20,
    "validation.tasks": 61,
    "validation.max_tasks": 70,
    "supernet.learner": "matching",
    "supernet.hyper": {"meta_batch": 2},
    "supernet.backbone": "conv",
    "supernet.iterations": 11,
    "supernet.candidates": 12,
    "supernet.tasks": 13,
    "supernet.keep": 2,
    "supernet.inherit": False,
    "sampler.name": "random",
    "sampler.startup_trials": 7,
    "sampler.parts": {"*.inner_lr*": "cmaes"},
    "scheduler.name": "none",
    "scheduler.grace": 80,
    "scheduler.reduction_factor": 2.0,
    "scheduler.share": 0.5,
    "finalists.count": 1,
    "finalists.seeds": 3,
    "finalists.tasks": 201,
    "finalists.max_tasks": 400,
    "test.tasks": 601,
    "baseline.learner": "maml",
    "baseline.backbone": "conv4",
    "baseline.hyper": {"meta_batch": 2},
    "resources.concurrency": 1,
    "resources.cpus_per_trial": 2.0,
    "resources.gpus_per_trial": "auto",
    "resources.cohort": 2,
    "resources.strategy": "vmap",
    "resources.precision": "tf32",
    "warm_start": ["trials/earlier"],
    "storage": "sqlite:///mine.db",
    "address": "auto",
    "out": "elsewhere",
}


def test_there_is_another_value_for_every_field_that_is_offered() -> None:
    assert list(OTHERS) == field_names()


@pytest.mark.parametrize("name", OTHERS)
def test_every_field_that_is_offered_can_be_set(name: str) -> None:
    other = OTHERS[name]
    base = ["supernet.learner=protonet"] if name.startswith("supernet.") else []

    def found(assignments: list[str]) -> Any:
        values: Any = load_config("quickstart", assignments).model_dump(mode="json")
        return reduce(getitem, name.split("."), values)

    assert found(base) != other
    assert found([*base, f"{name}={json.dumps(other)}"]) == other


def every(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands of the tree, with the words that lead there."""
    if isinstance(command, typer.core.TyperGroup):
        for name, below in command.commands.items():
            yield from every(below, (*path, name))
    else:
        yield path, command


COMMANDS = list(every(typer.main.get_command(app)))


@pytest.mark.parametrize(("path", "command"), COMMANDS, ids=[" ".join(p) for p, _ in COMMANDS])
def test_the_help_of_every_command_has_an_example_that_it_understands(
    path: tuple[str, ...], command: Any
) -> None:
    text = " ".join(command.help.split())
    example = re.search(r"Example: autometa (.+)$", text)
    assert example, text
    words = example[1].split()
    assert tuple(words[: len(path)]) == path
    context = command.make_context(path[-1], words[len(path) :])
    assert context.args == []


def test_the_readme_names_every_command() -> None:
    shown = {words[0] for words in commands("README.md")}
    assert {path[0] for path, _ in COMMANDS} <= shown
