"""Whatever trains or scores is as exact as its trial says, whoever worked in the process before."""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from test_trial import SPEC

import autometa
from autometa.backbones import BACKBONES
from autometa.config import LimitsConfig, parse_config
from autometa.engine.precision import FLOAT32, TF32, set_precision
from autometa.export.bundle import write_bundle
from autometa.learners.protonet import ProtoNet
from autometa.search.events import ignore
from autometa.search.run import prepared
from autometa.search.supernet import training as supernet
from autometa.search.supernet.training import Job
from autometa.testing.winners import IMAGES, trained
from autometa.trial import (
    CohortRun,
    TrialSpec,
    build_learner,
    gpu_need,
    run_trial,
    score_checkpoint,
)
from autometa.trial.insight import View, insight
from autometa.trial.profiling import profile_iterations

ROOT = Path(autometa.__file__).parent
SHAPE = (1, 16, 16)
SMALLEST = BACKBONES.load("conv")().default() | {"width": 16, "depth": 2}
Flags = tuple[bool, bool]


def flags() -> Flags:
    return torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32


@pytest.fixture(autouse=True)
def restored() -> Iterator[None]:
    before = flags()
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[Flags]:
    """What held whenever a learner predicted."""
    found: list[Flags] = []
    predict = ProtoNet.predict

    def watched(self: ProtoNet, *given: object) -> object:
        found.append(flags())
        return predict(self, *given)  # type: ignore[arg-type]

    monkeypatch.setattr(ProtoNet, "predict", watched)
    return found


def job(spec: TrialSpec) -> Job:
    space = BACKBONES.load("conv")()
    options = space.choices(SHAPE) | {"width": (16,), "depth": (2,)}
    return Job(replace(spec, backbone="conv", architecture=SMALLEST), options, LimitsConfig())


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with checkpoints of a trial and of a super-net."""
    home = tmp_path_factory.mktemp("home")
    list(run_trial(SPEC, home / "trial.pt"))
    supernet.train(job(SPEC), home / "supernet.pt", 1)
    return home


BEGIN: dict[str, Callable[[TrialSpec, Path, Path], object]] = {
    "trial.training.run_trial": lambda spec, home, new: list(run_trial(spec, new)),
    "trial.cohort.CohortRun": lambda spec, home, new: CohortRun([spec], [new]).advance(),
    "trial.scoring.score_checkpoint": lambda spec, home, new: score_checkpoint(
        spec, home / "trial.pt", "test", "meta-test", 2
    ),
    "trial.insight.insight": lambda spec, home, new: insight(
        spec, home / "trial.pt", View("validation", "confirm", 2)
    ),
    "trial.profiling.profile_iterations": lambda spec, home, new: profile_iterations(spec, 1, new),
    "trial.need.gpu_need": lambda spec, home, new: gpu_need(spec),
    "search.supernet.training.train": lambda spec, home, new: supernet.train(job(spec), new, 1),
    "search.supernet.training.score": lambda spec, home, new: supernet.score(
        job(spec), home / "supernet.pt", [SMALLEST], 2
    ),
}
"""All that train or score what they build."""
ONLY_BUILD = {
    "trial.training.course_of",
    "export.formats.base.Winner",
    "bench.learners._images_per_iteration",
    "bench.learners._measurements",
}
"""What they build is written down, counted, or used by one of the above."""


@pytest.mark.parametrize("precision", [FLOAT32, TF32])
@pytest.mark.parametrize("name", BEGIN)
def test_work_is_as_exact_as_its_trial_says(
    name: str, precision: str, home: Path, tmp_path: Path, seen: list[Flags]
) -> None:
    set_precision(FLOAT32 if precision == TF32 else TF32)
    BEGIN[name](replace(SPEC, precision=precision), home, tmp_path / "new")
    told = (precision == TF32,) * 2
    assert flags() == told
    assert set(seen) == ({told} if torch.cuda.is_available() or "gpu_need" not in name else set())


def builders(path: Path) -> Iterator[str]:
    """The functions and classes of a file that make learners of trials."""
    module = ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for each in ast.parse(path.read_text(encoding="utf-8")).body:
        calls = (node.func for node in ast.walk(each) if isinstance(node, ast.Call))
        if {"build_learner", "course_of"} & {f.id for f in calls if isinstance(f, ast.Name)}:
            assert isinstance(each, ast.FunctionDef | ast.ClassDef)
            yield f"{module}.{each.name}"


def test_all_that_build_a_learner_are_known() -> None:
    found = {name for path in ROOT.rglob("*.py") for name in builders(path)}
    assert found == set(BEGIN) | ONLY_BUILD


def test_who_only_builds_leaves_the_process_as_it_was() -> None:
    set_precision(TF32)
    build_learner(SPEC)
    assert flags() == (True, True)


@pytest.mark.parametrize("precision", [FLOAT32, TF32])
def test_a_search_times_candidates_as_its_trials_compute(precision: str) -> None:
    set_precision(FLOAT32 if precision == TF32 else TF32)
    prepared(parse_config(IMAGES | {"resources": {"precision": precision}}), ignore)
    assert flags() == (precision == TF32,) * 2


@pytest.mark.parametrize("precision", [FLOAT32, TF32])
@pytest.mark.parametrize("picked", [False, True])
def test_a_bundle_is_used_as_its_model_was_scored(
    precision: str, picked: bool, tmp_path: Path
) -> None:
    made = trained(tmp_path / "study", "protonet")
    spec = replace(made.spec, precision=precision)
    entry = made.entry | {"spec": spec.to_json()}
    other = {"result": made.result, "picked": entry | {"picked": "a rule"}}
    winner = {"result": made.result | {"winner": entry}}
    told: dict[str, Any] = other if picked else winner
    bundle = write_bundle(made.folder, made.config, target=tmp_path / "best", **told)
    set_precision(FLOAT32 if precision == TF32 else TF32)
    autometa.adapt(bundle, torch.rand(3, *SHAPE), torch.arange(3))
    assert flags() == (precision == TF32,) * 2
