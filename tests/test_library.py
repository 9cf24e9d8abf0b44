"""autometa as a library: a program with its own tasks, learner and backbone, and what is left."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import autometa as am
from autometa.errors import BundleError, DataError

TASKS = """
import torch

CENTRES = 2 * torch.randn(30, 4, generator=torch.Generator().manual_seed(1))
CLASSES = {"train": range(16), "validation": range(16, 23), "test": range(23, 30)}

def blobs(split, generator):
    own = CENTRES[list(CLASSES[split])]
    while True:
        centres = own[torch.randperm(len(own), generator=generator)[:3]]
        x = centres[:, None] + torch.randn(3, 5, 4, generator=generator)
        y = torch.arange(3)[:, None].expand(3, 5)
        yield x[:, 0], y[:, 0], x[:, 1:].flatten(0, 1), y[:, 1:].flatten()
"""
SCRIPT = """
import json
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

import autometa as am
from autometa.backbones.base import BackboneSpace
from autometa.learners.base import Hyper, Learner, class_means, prefixed, under
from autometa.learners.domains import Float, hyper
from my_tasks import blobs


@am.register_backbone("lines")
class Lines(BackboneSpace):
    summary = "a linear map"
    input_rank = 1

    def choices(self, in_shape):
        return {"width": (8, 16)}

    def default(self):
        return {"width": 8}

    def network(self, sample, in_shape):
        return nn.Sequential(nn.Linear(in_shape[0], sample["width"]), nn.Tanh())


@dataclass(frozen=True)
class MeansHyper(Hyper):
    sharpness: float = hyper(1.0, Float(0.5, 8.0, log=True), "factor of the distances")


@am.register_learner("means")
@dataclass(frozen=True)
class Means(Learner[MeansHyper]):
    paper: ClassVar[str] = "none"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = MeansHyper

    def init(self, ways, generator):
        return prefixed("encoder", self.encoder.init(generator))

    def adapt(self, params, support_x, support_y, ways):
        return class_means(self.encoder(under("encoder", params), support_x), support_y, ways)

    def predict(self, params, fast, query_x):
        x = self.encoder(under("encoder", params), query_x)
        return -self.hyper.sharpness * torch.cdist(x, fast)


study = am.search(
    {
        "name": "own",
        "space": {"learners": ["means"], "backbones": ["lines"]},
        "budget": {"trials": 3, "iterations": 20},
        "validation": {"every": 10, "tasks": 20},
        "scheduler": {"grace": 10},
        "finalists": {"count": 1, "seeds": 1, "tasks": 20, "max_tasks": 20},
        "test": {"tasks": 20},
        "baseline": {"learner": "means", "backbone": "lines"},
        "resources": {"concurrency": 1},
        "out": "study",
    },
    tasks=blobs,
    dashboard=False,
)
ended = study.trials[["learner", "end"]].to_dict("records")
print(json.dumps({"ended": ended, "task": study.config.task.model_dump()}))
"""


def python(*words: str, where: Path, code: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A Python of its own in a folder; ``code`` is where it finds the user's modules."""
    paths = [str(Path(__file__).parents[1]), *([str(code)] if code else [])]
    return subprocess.run(
        [sys.executable, *words],
        cwd=where,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program's folder, with the study that it has made."""
    home = tmp_path_factory.mktemp("program")
    (home / "my_tasks.py").write_text(TASKS)
    (home / "script.py").write_text(SCRIPT)
    done = python("script.py", where=home)
    assert done.returncode == 0, done.stderr
    (home / "told.json").write_text(done.stdout.strip().splitlines()[-1])
    return home


def test_a_script_searches_with_its_own_tasks_learner_and_backbone(place: Path) -> None:
    told = json.loads((place / "told.json").read_text())
    assert len(told["ended"]) == 3
    assert {each["learner"] for each in told["ended"]} == {"means"}
    assert {each["end"] for each in told["ended"]} <= {"complete", "pruned"}
    wanted = {"ways": 3, "shots": 1, "queries": 4}
    assert told["task"].items() >= wanted.items()
    result = json.loads((place / "study" / "result.json").read_text())
    assert result["winner"]["test"]["mean"] > 1.3 / 3, "better than chance on unseen classes"


def test_the_study_is_resumed_by_the_command_with_the_code_that_it_brought(place: Path) -> None:
    """Elsewhere, by a process that has never seen the script; finalists are trained anew."""
    study, elsewhere = place / "study", place / "elsewhere"
    elsewhere.mkdir()
    before = json.loads((study / "result.json").read_text())
    bundled = (study / "best" / "learner" / "means.py").read_text()
    for path in [study / "result.json", *study.glob("finalists/*"), *study.glob("**/*-seed*.pt")]:
        path.unlink()
    (study / "best").rename(elsewhere / "before")
    resume = ("-m", "autometa.cli", "resume", str(study), "--quiet")
    alone = python(*resume, where=elsewhere)
    assert alone.returncode == 2
    assert "needs the code of its function of tasks 'blobs'" in alone.stderr
    assert "No module named 'my_tasks'" in alone.stderr
    done = python(*resume, where=elsewhere, code=place)
    assert done.returncode == 0, done.stderr
    after = json.loads((study / "result.json").read_text())
    for name in ("rescored", "confirmed", "test"):
        assert after["winner"][name] == before["winner"][name]
    assert (study / "best" / "learner" / "means.py").read_text() == bundled


def test_its_bundle_is_adapted_to_a_task(
    place: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    scope: dict[str, Any] = {}
    exec(TASKS, scope)
    blobs: Callable[..., Any] = scope["blobs"]
    tasks = blobs("test", torch.Generator().manual_seed(3))
    hits: list[Tensor] = []
    for _ in range(20):
        support_x, support_y, query_x, query_y = next(tasks)
        predict = am.adapt(place / "study" / "best", support_x.numpy(), support_y.tolist())
        logits = predict(query_x.numpy())
        assert logits.shape == (12, 3)
        assert torch.equal(
            logits, am.load_bundle(place / "study" / "best").adapt(support_x, support_y)(query_x)
        )
        hits.append((logits.argmax(1) == query_y).float().mean())
    assert torch.stack(hits).mean() > 1.3 / 3
    with pytest.raises(BundleError, match="holds no bundle"):
        am.adapt(tmp_path, support_x, support_y)


def test_the_learner_in_the_bundle_is_its_part_of_the_script(place: Path) -> None:
    source = (place / "study" / "best" / "learner" / "means.py").read_text()
    assert "class MeansHyper(Hyper)" in source
    assert "autometa" not in source
    assert "blobs" not in source


def test_tasks_that_are_none_are_refused_and_nothing_is_left(tmp_path: Path) -> None:
    def mine(split: str, generator: torch.Generator) -> list[int]:
        return [1]

    with pytest.raises(DataError, match="train tasks of the function 'mine' must each be"):
        am.search({"out": str(tmp_path / "study")}, tasks=mine)
    assert not (tmp_path / "study").exists()
