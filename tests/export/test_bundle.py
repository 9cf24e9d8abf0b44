"""A bundle is written whole or not at all, says what it is, and is refused when damaged."""

from __future__ import annotations

import ast
import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import autometa
from autometa.errors import BundleError
from autometa.export import bundle as bundle_module

Study = Callable[[str], Any]  # the conftest's: case → a study that has ended

FILES = {
    "README.md",
    "__init__.py",
    "config.yaml",
    "layers.py",
    "learner/__init__.py",
    "learner/base.py",
    "learner/domains.py",
    "learner/gradients.py",
    "learner/protonet.py",
    "model.py",
    "results.json",
    "weights.safetensors",
}


def files_of(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def fail(*_: Any, **__: Any) -> None:
    raise OSError(28, "No space left on device")


def test_a_bundle_has_these_files(bundle: Path) -> None:
    assert files_of(bundle) == FILES
    assert list(bundle.parent.iterdir()) == [bundle]
    for path in bundle.rglob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))


def test_its_figures_and_its_configuration_are_the_winners(study: Study, bundle: Path) -> None:
    result = study("protonet").result
    assert json.loads((bundle / "results.json").read_text())["winner"] == result["winner"]
    described = yaml.safe_load((bundle / "config.yaml").read_text())
    assert described["hyper"] == result["winner"]["candidate"]["hyper"]
    assert described["architecture"] == result["winner"]["candidate"]["architecture"]
    assert described["training"] == {"iterations": 3, "seed": 7}


def test_an_existing_target_is_left_alone(study: Study, tmp_path: Path) -> None:
    (tmp_path / "best").mkdir()
    (tmp_path / "best" / "mine.txt").write_text("mine")
    with pytest.raises(BundleError, match="exists already: choose another folder"):
        study("protonet").write(tmp_path / "best")
    assert files_of(tmp_path) == {"best/mine.txt"}


@pytest.mark.parametrize("below", ["best", "deep/er/best"])
def test_a_target_below_a_file_is_refused(study: Study, tmp_path: Path, below: str) -> None:
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BundleError, match=r"can't be written: (Not a directory|File exists)"):
        study("protonet").write(tmp_path / "file" / below)
    assert files_of(tmp_path) == {"file"}


def test_a_full_disk_leaves_nothing_behind(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bundle_module, "save_file", fail)
    with pytest.raises(BundleError, match="can't be written: No space left on device"):
        study("protonet").write(tmp_path / "here" / "best")
    assert list((tmp_path / "here").iterdir()) == []


def test_the_card_has_score_and_interval_and_how_to_use_it(bundle: Path) -> None:
    card = (bundle / "README.md").read_text(encoding="utf-8")
    assert "| meta-test accuracy | 80.3 ± 1.5 % (600 tasks) |" in card
    assert "| published protonet, same budget | 75.4 ± 1.6 % (600 tasks) |" in card
    assert "| meta-validation accuracy | 67.1 ± 1.8 % (150 tasks) |" in card
    assert "beats the second best, maml-conv-001, with a probability of 0.843." in card
    assert "It serves any number of ways and shots." in card
    assert "| tasks | 3-way 1-shot, 2 queries a class, of `glyphs` |" in card
    assert "4,321 parameters" in card
    assert "seed 7" in card
    assert "*transductive*" in card
    code = card.split("```python\n")[1].split("```")[0]
    assert "from best import load" in code
    ast.parse(code)


@pytest.mark.parametrize(
    ("case", "serves", "tasks"),
    [
        ("maml-layer-learned", "3 ways, any shots.", "3-way 1-shot, 2 queries a class, of"),
        ("maml-regression", "regression to 1 number.", "5-shot, 5 queries a task, of"),
    ],
)
def test_the_card_says_what_it_serves(
    study: Study, tmp_path: Path, case: str, serves: str, tasks: str
) -> None:
    card = (study(case).write(tmp_path / "best") / "README.md").read_text(encoding="utf-8")
    assert f"It serves {serves}" in card
    assert f"| tasks | {tasks} " in card


def test_a_latency_that_was_measured_stands_beside_the_size(study: Study, tmp_path: Path) -> None:
    made = study("protonet")
    winner = made.result["winner"]
    timed = winner | {"candidate": winner["candidate"] | {"latency_ms": 12.345}}
    target = replace(made, result=made.result | {"winner": timed}).write(tmp_path / "timed")
    assert "an input, 12.345 ms to embed one" in (target / "README.md").read_text(encoding="utf-8")
    assert yaml.safe_load((target / "config.yaml").read_text())["latency_ms"] == 12.345
    untimed = made.write(tmp_path / "untimed")
    assert " ms to embed one" not in (untimed / "README.md").read_text(encoding="utf-8")


def test_a_card_without_a_baseline(study: Study, tmp_path: Path) -> None:
    made = study("protonet")
    alone = replace(made, result=made.result | {"baseline": None})
    card = (alone.write(tmp_path / "best") / "README.md").read_text(encoding="utf-8")
    assert "published" not in card


def test_load_bundle_gives_the_learner(study: Study, bundle: Path) -> None:
    x, y, queries = torch.rand(6, 1, 16, 16), torch.arange(3).repeat(2), torch.rand(5, 1, 16, 16)
    learner = autometa.load_bundle(bundle, dtype=torch.float64)
    output = learner.adapt(x, y)(queries)
    assert output.dtype == torch.float64
    expected = study("protonet").output(x, y, queries)
    torch.testing.assert_close(output.float(), expected, rtol=0, atol=1e-4)


def test_a_bundle_put_in_the_place_of_another_is_loaded_anew(study: Study, bundle: Path) -> None:
    assert type(autometa.load_bundle(bundle).learner).__name__ == "ProtoNet"
    shutil.rmtree(bundle)
    study("maml-scalar-learned").write(bundle)
    assert type(autometa.load_bundle(bundle).learner).__name__ == "MAML"


def remove_weights(bundle: Path, _: Path) -> None:
    (bundle / "weights.safetensors").unlink()


def cut_weights(bundle: Path, _: Path) -> None:
    weights = bundle / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def empty_weights(bundle: Path, _: Path) -> None:
    (bundle / "weights.safetensors").write_bytes(b"")


def exchange_weights(bundle: Path, other: Path) -> None:
    shutil.copy(other / "weights.safetensors", bundle / "weights.safetensors")


def break_syntax(bundle: Path, _: Path) -> None:
    model = bundle / "model.py"
    model.write_text(model.read_text().replace("def build()", "def build("))


def cut_source(bundle: Path, _: Path) -> None:
    model = bundle / "model.py"
    model.write_text(model.read_text().split("@dataclass")[0])


def remove_learner(bundle: Path, _: Path) -> None:
    shutil.rmtree(bundle / "learner")


def remove_everything(bundle: Path, _: Path) -> None:
    shutil.rmtree(bundle)
    bundle.mkdir()


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        (remove_weights, "No such file"),
        (cut_weights, "weights.safetensors can't be read"),
        (empty_weights, "weights.safetensors can't be read"),
        (exchange_weights, "doesn't hold this network's weights"),
        (break_syntax, r"is damaged: .* \(model.py, line"),
        (cut_source, "cannot import name 'MetaLearner'"),
        (remove_learner, "No module named"),
        (remove_everything, "holds no bundle: it has no __init__.py"),
    ],
)
def test_a_damaged_bundle_is_refused_in_one_sentence(
    study: Study,
    bundle: Path,
    tmp_path: Path,
    damage: Callable[[Path, Path], None],
    told: str,
) -> None:
    damage(bundle, study("maml-scalar-learned").write(tmp_path / "other"))
    with pytest.raises(BundleError, match=told) as caught:
        autometa.load_bundle(bundle)
    assert "\n" not in str(caught.value)
    assert repr(str(bundle)) in str(caught.value)


def test_no_folder_holds_no_bundle(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="holds no bundle"):
        autometa.load_bundle(tmp_path / "nowhere")
