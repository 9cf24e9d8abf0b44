"""A winner as a LightningModule predicts and trains there as autometa does here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import libraries
import pytest
import torch
from libraries import at_work, meta_trained, prediction, task_of
from safetensors.torch import load_file
from torch import Tensor

from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Winner
from autometa.export.formats.lightning import Lightning
from autometa.learners.base import Hyper
from autometa.learners.finetune import FinetuneHyper
from autometa.learners.imaml import IMAMLHyper
from autometa.learners.maml import MAMLHyper
from autometa.learners.mamlpp import MAMLPPHyper
from autometa.learners.matching import MatchingHyper
from autometa.learners.metasgd import MetaSGDHyper
from autometa.learners.nearest import NearestHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.rates import RateVector

Make = Callable[..., Winner]

BY_STEP_AND_LAYER = RateVector("learned", "layer", ((0.4,), (0.1,)))
SGD: dict[str, Any] = {"meta_optimizer": "sgd", "meta_lr": 0.1, "meta_batch": 2}

CASES: dict[str, tuple[str, Hyper, str]] = {
    "maml": (
        "maml",
        MAMLHyper(
            inner_steps=2,
            inner_lr=BY_STEP_AND_LAYER,
            evaluation_steps=3,
            order="annealed",
            meta_schedule="cosine",
            meta_weight_decay=0.05,
            **SGD,
        ),
        "conv",
    ),
    "maml-regression": ("maml", MAMLHyper(inner_steps=2, **SGD), "mlp"),
    "mamlpp": ("mamlpp", MAMLPPHyper(inner_steps=2, **SGD), "conv"),
    "metasgd": ("metasgd", MetaSGDHyper(meta_weight_decay=0.05, **SGD), "conv"),
    "imaml": ("imaml", IMAMLHyper(inner_steps=2, **SGD), "conv"),
    "protonet": ("protonet", ProtoNetHyper(way_factor=2, scale=0.3, **SGD), "conv"),
    "matching": ("matching", MatchingHyper(full_context=True, **SGD), "conv"),
    "nearest": ("nearest", NearestHyper(), "conv"),
}
STEPS = 4

SCRIPT = """
import importlib
from pathlib import Path

import lightning
import torch
from safetensors.torch import load_file, save_file

plain = dict(
    logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False
)

for case in CASES:
    package = importlib.import_module(f"{case}.lightning_module")
    task = [load_file(f"{case}/task.safetensors")[name] for name in ("sx", "sy", "qx", "qy")]
    module = package.FewShot(iterations=STEPS)
    found = {"prediction": module.adapt(*task[:2])(task[2])}
    loader = torch.utils.data.DataLoader([[task] * 2] * STEPS, batch_size=None)
    once = torch.utils.data.DataLoader([[task]], batch_size=None)
    trainer = lightning.Trainer(accelerator="cpu", max_steps=STEPS, **plain)
    tested = trainer.test(module, once, verbose=False)[0]
    if any(parameter.requires_grad for parameter in module.parameters()):
        trainer.fit(module, loader, once)
    module.save(f"{case}-trained.safetensors")
    print(case, tested, sorted(trainer.callback_metrics))
    save_file(found, f"{case}-found.safetensors")

    fresh = package.FewShot.anew(seed=1, iterations=2)
    data = f"{package.settings.PROBLEM}.safetensors"
    trainer = lightning.Trainer(accelerator="cpu", max_steps=2, **plain)
    if any(parameter.requires_grad for parameter in fresh.parameters()):
        trainer.fit(fresh, package.training_loader(data, iterations=2))
        assert trainer.global_step == 2
    print(case, trainer.test(fresh, package.test_loader(data, number=5), verbose=False)[0])
"""


@pytest.fixture(scope="module")
def project(winners: dict[str, Winner], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with a package a case, and what came out of them."""
    home = tmp_path_factory.mktemp("lightning")
    python = libraries.environment(home / "venv", "lightning>=2.2")
    packages = {package(case): winner for case, winner in winners.items()}
    script = f"CASES, STEPS = {list(packages)}, {STEPS}\n{SCRIPT}"
    return at_work(python, home, Lightning(), packages, script)


def package(case: str) -> str:
    return case.replace("-", "_")


@pytest.mark.parametrize("case", CASES)
def test_predictions_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner, params = winners[case].learner, winners[case].params
    task = task_of(winners[case])
    expected = prediction(learner, params, task)
    found = load_file(project / f"{package(case)}-found.safetensors")["prediction"]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    score = learner.score(expected, task.query_y).item()
    metric = "mse" if learner.problem == "regression" else "accuracy"
    told = told_of(project, case)[0]
    assert told.startswith(f"{{'test_{metric}': ")
    assert float(told.split(": ")[1].split("}")[0]) == pytest.approx(score, rel=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_training_there_is_autometas(project: Path, winners: dict[str, Winner], case: str) -> None:
    made = winners[case]
    learned, expected = made.learner.learned(made.params), made.params
    if learned:
        expected = meta_trained(made.learner, made.params, task_of(made), STEPS)
    trained: dict[str, Tensor] = load_file(project / f"{package(case)}-trained.safetensors")
    assert set(trained) == set(made.params)
    for name, value in trained.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
    moved = {name for name, value in trained.items() if not value.equal(made.params[name])}
    assert moved >= {name for name in learned if name.endswith("conv.weight")}


def test_what_is_trained_is_logged(project: Path) -> None:
    assert told_of(project, "maml")[0].endswith("['train_accuracy', 'train_loss', 'val_accuracy']")
    assert told_of(project, "maml-regression")[0].endswith("['train_loss', 'train_mse', 'val_mse']")


def test_it_trains_and_tests_on_files_of_examples(project: Path) -> None:
    for case in CASES:
        told = told_of(project, case)[1]
        if case in ("protonet", "nearest"):  # these classes differ by far more than their images
            assert told == "{'test_accuracy': 1.0}"
        else:
            assert told.startswith("{'test_")


def told_of(project: Path, case: str) -> list[str]:
    """The lines that were printed of a case, without its name."""
    lines = (project / "printed.txt").read_text().splitlines()
    parts = [line.partition(" ") for line in lines]
    return [told for name, _, told in parts if name == package(case)]


def test_only_what_training_does_is_lost(winner: Make, winners: dict[str, Winner]) -> None:
    for made in winners.values():
        assert Lightning().losses(made) == []
    augmented = winner("protonet", ProtoNetHyper(augment="affine"))
    assert Lightning().losses(augmented) == [
        "its training images are augmented (affine), the project's aren't"
    ]


def test_a_learner_that_trains_on_classes_is_refused(winner: Make, tmp_path: Path) -> None:
    told = "^learner 'finetune' trains on all classes at once, but the LightningModule trains on"
    with pytest.raises(BundleError, match=told):
        Lightning().write(winner("finetune", FinetuneHyper()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_of_autometa(project: Path) -> None:
    for case in CASES:
        absent = {"autometa", "nni", "ray", "optuna"}
        assert libraries.imported(project / package(case)) & absent == set()


def test_the_format_is_registered() -> None:
    assert FORMATS.load("lightning") is Lightning
