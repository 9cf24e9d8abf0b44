"""A folder for the Hub: huggingface_hub reads card and weights, and the code in it predicts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from clean_place import clean_python, run_there
from safetensors.torch import load_file, save_file
from torch import Tensor

import autometa
from autometa.export.bundle import describe
from autometa.export.formats.base import Winner
from autometa.export.formats.hf import HfFormat, front_matter
from autometa.export.write import write_winner
from autometa.testing.formats import FormatTestCase, contents, expected, task_of
from autometa.testing.winners import trained

USE = """
import importlib, json
from pathlib import Path
from huggingface_hub import ModelCard
from safetensors import safe_open
from safetensors.torch import load_file, save_file

told = {}
for folder in sorted(path for path in Path(".").iterdir() if path.is_dir()):
    card = ModelCard.load(folder / "best" / "README.md")
    (figure,) = card.data.eval_results
    task = load_file(folder / "task.safetensors")
    learner = importlib.import_module(f"{folder.name}.best").load()
    output = learner.adapt(task["x"], task["y"])(task["queries"])
    save_file({"output": output.contiguous()}, folder / "found.safetensors")
    with safe_open(folder / "best" / "model.safetensors", "pt") as weights:
        form = weights.metadata()
    told[folder.name] = {
        "library": card.data.library_name,
        "tags": card.data.tags,
        "figure": [figure.task_type, figure.dataset_name, figure.metric_type, figure.metric_value],
        "text": card.text,
        "metadata": form,
    }
print(json.dumps(told))
"""
CASES = {"protonet": "conv", "maml": "mlp"}
FIGURES = {
    "protonet": ["few-shot-image-classification", "glyphs", "accuracy", 0.803],
    "maml": ["few-shot-regression", "sinusoid", "mse", 0.803],
}


class TestHfFormat(FormatTestCase):
    format = HfFormat

    def predictions(
        self, folder: Path, support_x: Tensor, support_y: Tensor, query_x: Tensor
    ) -> Tensor:
        output: Tensor = autometa.load_bundle(folder).adapt(support_x, support_y)(query_x)
        return output

    def test_it_has_the_files_of_a_repository(self, taken: Winner, written: Path) -> None:
        files = contents(written).keys()
        assert {"README.md", "config.json", "model.safetensors", "model.py"} <= files
        assert not {"weights.safetensors", "config.yaml"} & files
        said = json.loads((written / "config.json").read_text(encoding="utf-8"))
        assert said == describe(taken.config, taken.entry)
        assert "config.yaml" not in (written / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Learner → winner, its folder, and what huggingface_hub and the folder's own code made."""
    lent = ["torch", "safetensors", "numpy", "pyyaml", "tqdm", "packaging"]
    python = clean_python(tmp_path_factory.mktemp("hub"), HfFormat.needs, lent)
    project, studies = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("studies")
    winners = {name: trained(studies / name, name, backbone) for name, backbone in CASES.items()}
    for name, winner in winners.items():
        write_winner(winner, "hf", project / name / "best")
        task = dict(zip(("x", "y", "queries"), task_of(winner), strict=True))
        save_file(task, project / name / "task.safetensors")
    told = json.loads(run_there(python, USE, project))
    return {name: (won, project / name, told[name]) for name, won in winners.items()}


@pytest.mark.parametrize("name", CASES)
def test_the_code_in_it_predicts_as_the_learner_does(name: str, used: dict[str, Any]) -> None:
    winner, folder, _ = used[name]
    output = load_file(folder / "found.safetensors")["output"]
    torch.testing.assert_close(output, expected(winner, task_of(winner)), rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_the_hub_reads_the_card(name: str, used: dict[str, Any]) -> None:
    told = used[name][2]
    assert told["library"] == "pytorch"
    assert {"meta-learning", name} <= set(told["tags"])
    assert told["figure"] == FIGURES[name]
    assert told["metadata"] == {"format": "pt"}
    assert told["text"].lstrip().startswith(f"# {name}-")
    assert 'snapshot_download("USER/NAME", local_dir="best")' in told["text"]


def test_a_model_without_a_test_has_no_figure(tmp_path: Path) -> None:
    winner = trained(tmp_path / "study", "protonet")
    untested = replace(winner, entry=winner.entry | {"test": None})
    matter = yaml.safe_load(front_matter(untested).strip().strip("-"))
    assert "model-index" not in matter
    assert matter["library_name"] == "pytorch"
