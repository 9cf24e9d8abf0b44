"""Studies that have ended, without a search: a few meta-iterations of one specification."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor

from autometa.backbones import BACKBONES
from autometa.config import StudyConfig
from autometa.export.bundle import write_bundle
from autometa.export.formats.base import Winner
from autometa.learners.base import Hyper, Learner, Params
from autometa.learners.inner_loop import HEAD
from autometa.learners.maml import MAMLHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.rates import RateVector, group_names
from autometa.search.folder import StudyFolder
from autometa.testing.winners import ARCHITECTURES, SHAPES, trained

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
    won = trained(path, learner, backbone, hyper(), name=case)
    return Ended(won.folder, won.config, won.result, won.learner, won.params)


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
def winner(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Winner]:
    """The winner of a learner, its hyper-parameters and a backbone; each is trained anew."""

    def make(learner: str, hyper: Hyper, backbone: str = "conv") -> Winner:
        return trained(tmp_path_factory.mktemp(learner), learner, backbone, hyper, name=learner)

    return make


@pytest.fixture(scope="module")
def winners(request: pytest.FixtureRequest, winner: Callable[..., Winner]) -> dict[str, Winner]:
    """The winner of each case of a test module."""
    return {case: winner(*made) for case, made in request.module.CASES.items()}


@pytest.fixture
def bundle(study: Callable[[str], Ended], tmp_path: Path) -> Path:
    """A fresh bundle of a prototypical network."""
    return study("protonet").write(tmp_path / "best")
