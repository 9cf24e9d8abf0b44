"""Studies that have ended, without a search: a few meta-iterations of one specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from autometa.backbones import BACKBONES
from autometa.backbones.base import Option
from autometa.config import StudyConfig, parse_config
from autometa.export.bundle import write_bundle
from autometa.export.formats.base import Winner
from autometa.learners.base import Hyper, Learner, Params
from autometa.learners.hyper_json import to_json
from autometa.learners.inner_loop import HEAD
from autometa.learners.maml import MAMLHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.rates import RateVector, group_names
from autometa.search.folder import StudyFolder
from autometa.trial import TrialSpec, build_learner, load_params, train_to_end

IMAGES: dict[str, Any] = {
    "data": {"name": "glyphs", "options": {"image_size": 16, "instances": 6}},
    "task": {"ways": 3, "shots": 1, "queries": 2},
}
SINUSOIDS: dict[str, Any] = {
    "data": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 5, "queries": 5},
}
SHAPES = {"conv": (1, 16, 16), "mlp": (1,)}
ARCHITECTURES: dict[str, dict[str, Option]] = {
    "conv": {
        "activation": "silu",
        "depth": 2,
        "norm": "batch",
        "pool": "avg",
        "width": 16,
        "conv1/kernel": 3,
        "conv1/operator": "conv",
        "conv1/skip": True,
        "conv2/kernel": 5,
        "conv2/operator": "separable",
        "conv2/skip": False,
    },
    "mlp": {"activation": "tanh", "depth": 2, "linear1/width": 20, "linear2/width": 40},
}
STEPS = 2


def rates(mode: str, groups: str, backbone: str) -> RateVector:
    """A different rate in every step and group."""
    built = BACKBONES.load(backbone)().build(ARCHITECTURES[backbone], SHAPES[backbone])
    columns = len(group_names([*built.parameter_names, *HEAD], groups))
    rows = (tuple(0.02 + 0.05 * s + 0.01 * c for c in range(columns)) for s in range(STEPS))
    return RateVector(mode, groups, tuple(rows))


def maml(mode: str, groups: str, backbone: str = "conv", **over: Any) -> MAMLHyper:
    vector = rates(mode, groups, backbone)
    return MAMLHyper(meta_batch=1, inner_steps=STEPS, inner_lr=vector, **over)


# name → learner, backbone, how to make its hyper-parameters
CASES: dict[str, tuple[str, str, Callable[[], Hyper]]] = {
    "maml-scalar-searched": ("maml", "conv", lambda: maml("searched", "scalar")),
    "maml-layer-searched": ("maml", "conv", lambda: maml("searched", "layer")),
    "maml-parameter-searched": ("maml", "conv", lambda: maml("searched", "parameter")),
    "maml-scalar-learned": ("maml", "conv", lambda: maml("learned", "scalar")),
    "maml-layer-learned": ("maml", "conv", lambda: maml("learned", "layer", order="first")),
    "maml-parameter-learned": ("maml", "conv", lambda: maml("learned", "parameter")),
    "maml-layer-refined": ("maml", "conv", lambda: maml("refined", "layer")),
    "maml-evaluation-steps": (
        "maml",
        "conv",
        lambda: maml("searched", "layer", evaluation_steps=STEPS + 3),
    ),
    "maml-regression": ("maml", "mlp", lambda: maml("learned", "layer", "mlp")),
    "protonet": ("protonet", "conv", lambda: ProtoNetHyper(way_factor=2)),
    "protonet-cosine": (
        "protonet",
        "conv",
        lambda: ProtoNetHyper(distance="cosine", scale=8.0, learn_scale=True),
    ),
}


@dataclass(frozen=True)
class Ended:
    """A study that has ended, with what its bundle is judged by."""

    folder: StudyFolder
    config: StudyConfig
    result: dict[str, Any]
    learner: Learner[Any]
    params: Params

    def write(self, target: Path) -> Path:
        return write_bundle(self.folder, self.config, self.result, target)

    def output(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        """What autometa's own learner makes of a task."""
        regression = self.learner.problem == "regression"
        ways = self.config.task.ways if regression else int(support_y.max()) + 1
        fast = self.learner.adapt(self.params, support_x, support_y, ways)
        return self.learner.predict(self.params, fast, query_x).detach()


def ended(case: str, path: Path) -> Ended:
    """Train three meta-iterations, and write a result as a search would."""
    learner, backbone, hyper = CASES[case]
    return trained(case, learner, backbone, hyper(), path)


def trained(case: str, learner: str, backbone: str, hyper: Hyper, path: Path) -> Ended:
    """The same of any learner."""
    base = SINUSOIDS if backbone == "mlp" else IMAGES
    small = {"budget": {"iterations": 3}, "validation": {"every": 3}, "scheduler": {"grace": 3}}
    config = parse_config({"name": case, "out": str(path)} | base | small)
    spec = TrialSpec(
        learner=learner,
        hyper=to_json(hyper),
        backbone=backbone,
        architecture=ARCHITECTURES[backbone],
        data=config.data.name,
        data_options=config.data.options,
        task=config.task.model_dump(),
        seed=7,
        iterations=3,
        validate_every=3,
        validation_tasks=2,
    )
    folder = StudyFolder(path)
    train_to_end(spec, folder.checkpoint("winner"))
    built, _ = build_learner(spec)
    params = load_params(folder.checkpoint("winner"))
    return Ended(folder, config, result_of(spec, folder), built, params)


def result_of(spec: TrialSpec, folder: StudyFolder) -> dict[str, Any]:
    regression = spec.backbone == "mlp"
    candidate = {
        "learner": spec.learner,
        "hyper": spec.hyper,
        "backbone": spec.backbone,
        "architecture": spec.architecture,
        "parameters": 4321,
        "macs": 1234567,
    }
    return {
        "metric": "mse" if regression else "accuracy",
        "direction": "minimize" if regression else "maximize",
        "winner": {
            "name": f"{spec.learner}-{spec.backbone}-004",
            "candidate": candidate,
            "spec": spec.to_json(),
            "exported_seed": spec.seed,
            "checkpoint": str(folder.checkpoint("winner").relative_to(folder.path)),
            "confirmed": {"mean": 0.671, "ci95": 0.018, "tasks": 150, "seeds": {}},
            "rescored": {"mean": 0.68, "ci95": 0.02, "tasks": 200, "seeds": {"7": 0.69, "8": 0.67}},
            "test": {"mean": 0.803, "ci95": 0.015, "tasks": 600},
        },
        "selection": {
            "runner_up": {
                "name": "maml-conv-001",
                "better": 0.01,
                "ci95": 0.02,
                "probability": 0.8432,
                "tasks": 200,
            }
        },
        "baseline": {
            "candidate": candidate | {"learner": "protonet"},
            "test": {"mean": 0.754, "ci95": 0.016, "tasks": 600},
        },
    }


@pytest.fixture(scope="session", params=CASES)
def case(request: pytest.FixtureRequest) -> str:
    """Every learner, with rates of every kind."""
    return str(request.param)


@pytest.fixture(scope="session")
def cases() -> list[str]:
    """All of them at once."""
    return list(CASES)


@pytest.fixture(scope="session")
def study(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Ended]:
    """The ended study of a case; each is trained once."""
    made: dict[str, Ended] = {}
    home = tmp_path_factory.mktemp("studies")

    def find(case: str) -> Ended:
        if case not in made:
            made[case] = ended(case, home / case)
        return made[case]

    return find


@pytest.fixture(scope="session")
def winner(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Hyper, str], Winner]:
    """The winner of an ended study: learner, hyper-parameters, backbone; each is trained anew."""

    def make(learner: str, hyper: Hyper, backbone: str = "conv") -> Winner:
        home = tmp_path_factory.mktemp(learner)
        made = trained(learner, learner, backbone, hyper, home)
        return Winner(made.folder, made.config, made.result, made.result["winner"])

    return make


@pytest.fixture
def bundle(study: Callable[[str], Ended], tmp_path: Path) -> Path:
    """A fresh bundle of a prototypical network."""
    return study("protonet").write(tmp_path / "best")
