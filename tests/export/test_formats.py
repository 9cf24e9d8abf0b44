"""Formats without packages of their own satisfy the contract; every name is one."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import yaml
from torch import Tensor

import autometa
from autometa.errors import BundleError, UnknownNameError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Format, Winner
from autometa.export.formats.bundle import BundleFormat
from autometa.export.formats.config import ConfigFormat
from autometa.export.write import write_winner
from autometa.testing.formats import FormatTestCase, contents
from autometa.testing.winners import trained


class TestBundleFormat(FormatTestCase):
    format = BundleFormat

    def predictions(
        self, folder: Path, support_x: Tensor, support_y: Tensor, query_x: Tensor
    ) -> Tensor:
        output: Tensor = autometa.load_bundle(folder).adapt(support_x, support_y)(query_x)
        return output


class TestConfigFormat(FormatTestCase):
    format = ConfigFormat

    def test_the_three_files_say_the_same(self, taken: Winner, written: Path) -> None:
        assert contents(written).keys() == {"config.json", "config.toml", "config.yaml"}
        said = json.loads((written / "config.json").read_text())
        assert yaml.safe_load((written / "config.yaml").read_text()) == said
        assert said["hyper"] == taken.entry["candidate"]["hyper"]
        told = tomllib.loads((written / "config.toml").read_text())
        assert told["architecture"] == said["architecture"]


@pytest.mark.parametrize("name", list(FORMATS))
def test_every_format_is_one(name: str) -> None:
    assert issubclass(FORMATS.load(name), Format)


class Half(Format):
    """Can't express the rates, and fails in the middle of images."""

    summary: ClassVar[str] = "half of it"

    def losses(self, winner: Winner) -> list[str]:
        return ["its rates differ from step to step", "its head has a bias"]

    def write(self, winner: Winner, into: Path) -> None:
        (into / "half.txt").write_text("half")
        if winner.learner.problem != "regression":
            raise OSError(28, "No space left on device")


@pytest.fixture
def half(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a format that somebody else brings."""
    monkeypatch.setitem(FORMATS.targets, "half", f"{__name__}:Half")
    return "half"


@pytest.fixture(scope="module")
def won(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Winner]:
    return lambda backbone: trained(tmp_path_factory.mktemp("won") / "study", "maml", backbone)


def test_a_loss_must_be_agreed_to(half: str, won: Callable[[str], Winner], tmp_path: Path) -> None:
    told = "half.*maml-mlp-004.*its rates differ from step to step; its head has a bias .*--lossy"
    winner = won("mlp")
    with pytest.raises(BundleError, match=told):
        write_winner(winner, half, tmp_path / "to")
    assert list(tmp_path.iterdir()) == []
    write_winner(winner, half, tmp_path / "to", lossy=True)
    assert contents(tmp_path) == {"to/half.txt": b"half"}


def test_what_fails_leaves_nothing(half: str, won: Callable[[str], Winner], tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="can't be written: No space left on device"):
        write_winner(won("conv"), half, tmp_path / "deep" / "to", lossy=True)
    assert contents(tmp_path) == {}


def test_a_target_that_exists_is_left_alone(
    half: str, won: Callable[[str], Winner], tmp_path: Path
) -> None:
    (tmp_path / "to").mkdir()
    with pytest.raises(BundleError, match="exists already"):
        write_winner(won("mlp"), half, tmp_path / "to", lossy=True)


def test_an_unknown_format_names_the_nearest(tmp_path: Path) -> None:
    nowhere: Any = None
    with pytest.raises(UnknownNameError, match="format 'bundel' is unknown: did you mean 'bundle'"):
        write_winner(nowhere, "bundel", tmp_path / "to")
