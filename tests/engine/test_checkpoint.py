"""Checkpoints: whole or not at all, and plain."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch

from autometa.engine.checkpoint import load, save
from autometa.errors import StudyError

STATE = {"iteration": 3, "params": {"w": torch.arange(5.0)}, "nested": [1, {"lr": 0.1}]}


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "new" / "checkpoint.pt"
    save(path, STATE)
    loaded = load(path)
    assert torch.equal(loaded["params"]["w"], STATE["params"]["w"])
    assert (loaded["iteration"], loaded["nested"]) == (3, [1, {"lr": 0.1}])


def test_a_save_that_dies_leaves_the_old_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, STATE)

    def dies(state: Any, file: Any) -> None:
        file.write(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(torch, "save", dies)
    with pytest.raises(KeyboardInterrupt):
        save(path, {"iteration": 4})
    assert load(path)["iteration"] == 3
    assert os.listdir(tmp_path) == ["checkpoint.pt"]


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match="doesn't exist"):
        load(tmp_path / "none.pt")


@pytest.mark.parametrize("keep", [0, 10, 500, -20])
def test_a_truncated_file_is_told(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "checkpoint.pt"
    save(path, STATE)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(StudyError, match="can't be read"):
        load(path)


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("harm",)


def test_code_in_a_file_is_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"iteration": Harmful()}, "torch.pt")
    Path("plain.pt").write_bytes(pickle.dumps(Harmful(), protocol=2))
    for name in ("torch.pt", "plain.pt"):
        with pytest.raises(StudyError, match="can't be read"):
            load(tmp_path / name)
    assert not Path("harm").exists()


def test_another_kind_of_file_is_told(tmp_path: Path) -> None:
    torch.save(torch.ones(2), tmp_path / "tensor.pt")
    with pytest.raises(StudyError, match="holds a Tensor, but must hold a dict"):
        load(tmp_path / "tensor.pt")
