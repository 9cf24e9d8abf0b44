"""Members that a program registers: their names, how they travel, what is said if they can't."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import autometa as am
from autometa.backbones import BACKBONES
from autometa.backbones.conv4 import Conv4Backbone
from autometa.config import StudyConfig, parse_config
from autometa.errors import BundleError, ConfigError, StudyError, UnknownNameError
from autometa.learners import LEARNERS
from autometa.learners.base import Hyper
from autometa.learners.protonet import ProtoNet
from autometa.search.folder import StudyFolder, create_folder
from autometa.search.members import folder_of, pickled
from autometa.search.plan import plan
from autometa.trial import TrialSpec, build_learner
from autometa.trial.members import REGISTRIES, members_of

MODULE = """
import autometa as am
from autometa.backbones.conv4 import Conv4Backbone
from autometa.learners.protonet import ProtoNet

@am.register_learner("theirs")
class Theirs(ProtoNet):
    pass

@am.register_backbone("their_net")
class TheirNet(Conv4Backbone):
    pass
"""


@pytest.fixture(autouse=True)
def alone() -> Iterator[None]:
    """What a test registers is gone after it."""
    before = {kind: dict(each.registered) for kind, each in REGISTRIES.items()}
    yield
    for kind, each in REGISTRIES.items():
        each.registered.clear()
        each.registered.update(before[kind])


def test_a_registered_class_is_a_learner_like_others() -> None:
    @am.register_learner("mine")
    class Mine(ProtoNet):
        pass

    assert LEARNERS.load("mine") is Mine
    assert "mine" in LEARNERS
    assert "mine" in am.learners()

    @am.register_learner("mine")
    class Again(ProtoNet):
        pass

    assert LEARNERS.load("mine") is Again, "a cell of a notebook is run more than once"
    with pytest.raises(UnknownNameError, match="did you mean 'mine'"):
        LEARNERS.load("mime")


def test_a_registered_class_is_a_backbone_space_like_others() -> None:
    @am.register_backbone("my_net")
    class Mine(Conv4Backbone):
        pass

    assert BACKBONES.load("my_net") is Mine


class Half(ProtoNet):
    hyper_type = dict  # type: ignore[assignment]


@dataclass(frozen=True)
class Bare(Hyper):
    rate: float = 0.1


class Undomained(ProtoNet):
    hyper_type = Bare


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "ours": (lambda: am.register_learner("maml")(ProtoNet), "'maml' is one of autometa's"),
    "no name": (lambda: am.register_learner("my-own")(ProtoNet), "must be letters, digits and _"),
    "no learner": (lambda: am.register_learner("mine")(dict), "a class that extends Learner"),
    "an object": (lambda: am.register_backbone("mine")(3), "a class that extends BackboneSpace"),  # type: ignore[type-var]
    "abstract": (
        lambda: am.register_backbone("mine")(type("X", (Conv4Backbone.__base__,), {})),  # type: ignore[arg-type]
        "lacks choices, default, network",
    ),
    "no hyper": (lambda: am.register_learner("mine")(Half), "hyper_type <class 'dict'>"),
    "no domain": (lambda: am.register_learner("mine")(Undomained), "'rate' without a domain"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_member_is_refused(name: str) -> None:
    attempt, told = REFUSED[name]
    with pytest.raises(ConfigError, match=told):
        attempt()
    assert "mine" not in LEARNERS
    assert "mine" not in BACKBONES


@pytest.fixture
def theirs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """A module of the user's that registers a learner and a backbone."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "their_module.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path / "code")
    monkeypatch.delitem(sys.modules, "their_module", raising=False)
    return importlib.import_module("their_module")


def study(tmp_path: Path, **space: Any) -> StudyConfig:
    data = {"name": "glyphs", "options": {"image_size": 16, "instances": 6}}
    small = {"budget": {"iterations": 4}, "validation": {"every": 4}, "scheduler": {"grace": 4}}
    task = {"ways": 3, "shots": 1, "queries": 2}
    where = {"out": str(tmp_path / "study"), "baseline": None}
    return parse_config({"data": data, "task": task, "space": space} | small | where)


def made(config: StudyConfig) -> StudyFolder:
    return create_folder(config, {"name": "glyphs", "fingerprint": "0"}, None, pickled(config))


def forget() -> None:
    """As another process is, which doesn't know the user's module."""
    for each in REGISTRIES.values():
        each.registered.clear()
    sys.modules.pop("their_module", None)


def test_a_trial_elsewhere_has_the_members_of_its_study(theirs: ModuleType, tmp_path: Path) -> None:
    config = study(tmp_path, learners=["theirs"], backbones=["their_net"])
    planned = plan(config)
    folder = made(planned.config)
    assert {path.name for path in folder.members.iterdir()} == {
        "learner.theirs.pkl",
        "backbone.their_net.pkl",
    }
    hyper = {"learner": "theirs", "hyper": {}, "backbone": "their_net"}
    spec = planned.spec(hyper | {"architecture": {"width": 32}})
    assert spec.members == str(folder.members.absolute())
    forget()
    built, _ = build_learner(TrialSpec.from_json(spec.to_json()))
    assert type(built).__name__ == "Theirs"


def test_a_study_without_own_members_brings_none(tmp_path: Path) -> None:
    config = study(tmp_path, learners=["protonet"], backbones=["conv4"])
    assert folder_of(config) is None
    assert not made(config).members.exists()


def test_code_that_is_gone_is_named(
    theirs: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = made(study(tmp_path, learners=["theirs"], backbones=["conv4"]))
    forget()
    (tmp_path / "code" / "their_module.py").unlink()
    importlib.invalidate_caches()
    with (
        pytest.raises(StudyError, match=r"study '.*study' .* learner 'theirs'.*'their_module'"),
        members_of(folder.members),
    ):
        pass
    with pytest.raises(StudyError, match="'their_module'"):
        am.resume(folder.path)


def test_what_cannot_travel_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    handle = (tmp_path / "file").open("w")

    @am.register_learner("mine")
    class Mine(ProtoNet):
        kept = handle

    config = study(tmp_path, learners=["mine"], backbones=["conv4"])
    with pytest.raises(ConfigError, match="learner 'mine' can't be sent to the search's workers"):
        made(config)
    handle.close()
    assert not config.folder.exists()


def test_a_learner_that_no_bundle_could_carry_is_refused_before_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = "import numpy as np\n" + MODULE.replace("    pass", "    factor = np.pi", 1)
    (tmp_path / "heavy_module.py").write_text(body)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module("heavy_module")
    config = study(tmp_path, learners=["theirs"], backbones=["conv4"])
    with pytest.raises(BundleError, match="imports 'numpy', which a bundle doesn't carry"):
        am.search(config)
    assert not config.folder.exists()


def test_a_network_that_no_bundle_could_carry_is_refused_before_the_search(tmp_path: Path) -> None:
    class Looping(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(256, 8)

        def forward(self, x: Tensor) -> Tensor:
            return torch.stack([self.layer(row.flatten()) for row in x])

    @am.register_backbone("looping")
    class LoopingSpace(Conv4Backbone):
        def network(self, sample: Any, in_shape: Any) -> nn.Module:
            return Looping()

    config = study(tmp_path, learners=["protonet"], backbones=["looping"])
    with pytest.raises(BundleError, match="forward can't be traced"):
        am.search(config)
    assert not config.folder.exists()
