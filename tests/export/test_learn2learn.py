"""A winner as a project of learn2learn's gives autometa's predictions and meta-gradients there."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import libraries
import pytest
import torch
from libraries import EARLY, LATE, WORK, at_work, examples, meta_trained, prediction, task_of
from safetensors.torch import load_file, save_file
from torch import Tensor

from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Winner
from autometa.export.formats.learn2learn import Learn2Learn
from autometa.learners.anil import ANILHyper
from autometa.learners.base import Hyper, Moment
from autometa.learners.fomaml import FOMAMLHyper
from autometa.learners.maml import MAMLHyper
from autometa.learners.metasgd import MetaSGDHyper
from autometa.learners.nearest import NearestHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.learners.reptile import ReptileHyper

Make = Callable[..., Winner]

ONE = RateVector("searched", "scalar", ((0.1,),))
BY_STEP = RateVector("searched", "scalar", ((0.4,), (0.1,)))
BY_LAYER = RateVector("learned", "layer", ((0.05,),))
OUTER: dict[str, Any] = {
    "meta_optimizer": "momentum",
    "meta_schedule": "cosine",
    "meta_weight_decay": 0.01,
    "meta_lr": 0.1,
    "meta_batch": 2,
}

CASES: dict[str, tuple[str, Hyper, str]] = {
    "maml": ("maml", MAMLHyper(inner_steps=2, inner_lr=ONE, **OUTER), "conv"),
    "maml-annealed": (
        "maml",
        MAMLHyper(inner_steps=2, inner_lr=ONE, order="annealed", evaluation_steps=4),
        "conv",
    ),
    "maml-by-step": ("maml", MAMLHyper(inner_steps=2, inner_lr=BY_STEP), "conv"),
    "maml-regression": ("maml", MAMLHyper(inner_steps=2, inner_lr=ONE), "mlp"),
    "fomaml": ("fomaml", FOMAMLHyper(inner_steps=2, inner_lr=ONE), "conv"),
    "anil": ("anil", ANILHyper(inner_steps=3, inner_lr=ONE), "conv"),
    "anil-first": ("anil", ANILHyper(inner_steps=2, inner_lr=ONE, order="first"), "conv"),
    "metasgd": ("metasgd", MetaSGDHyper(inner_steps=2), "conv"),
    "protonet": ("protonet", ProtoNetHyper(way_factor=2, scale=0.3), "conv"),
    "protonet-cosine": (
        "protonet",
        ProtoNetHyper(distance="cosine", scale=8.0, learn_scale=True),
        "conv",
    ),
}

SCRIPT = """
import contextlib, io

for folder, train, task in projects():
    method = train.load()
    found = {"prediction": method(*task[:3]).detach()}
    found |= meta_gradients(train, method, task) | trained(train, method, task)
    conclude(folder, train, found)
    if folder.name == "maml":
        with contextlib.redirect_stderr(io.StringIO()) as told:
            try:
                train.main(["test", "small.safetensors"])
            except SystemExit as end:
                print(end.code, file=told)
        Path("refused.txt").write_text(told.getvalue())
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has learn2learn's sources, as the README of an export says."""
    home = tmp_path_factory.mktemp("learn2learn")
    python = libraries.environment(home / "venv")
    options = ("--no-deps", "--no-binary", "learn2learn", "--dest", str(home))
    libraries.pip(python, "download", *options, "learn2learn==0.2.0")
    with tarfile.open(home / "learn2learn-0.2.0.tar.gz") as archive:
        archive.extractall(home, filter="data")
    (home / "learn2learn-0.2.0" / "learn2learn" / "__init__.py").write_text("")
    site = next((home / "venv").rglob("lent.pth")).parent
    (site / "learn2learn.pth").write_text(str(home / "learn2learn-0.2.0"))
    return python


@pytest.fixture(scope="module")
def project(
    python: Path, winners: dict[str, Winner], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder a case, with what came out when learn2learn was at work there."""
    home = tmp_path_factory.mktemp("projects")
    save_file({name: value[:12] for name, value in examples().items()}, home / "small.safetensors")
    return at_work(python, home, Learn2Learn(), winners, WORK + SCRIPT, "-W", "error")


def expressed(winner: Winner) -> tuple[Any, dict[str, Tensor]]:
    """The winner's learner and meta-parameters, with what learn2learn has for its rates."""
    learner, params = winner.learner, dict(winner.params)
    if "inner_lr" in params:
        params["inner_lr"] = torch.full_like(params["inner_lr"], params["inner_lr"].mean().item())
        fixed = replace(learner.hyper.inner_lr, mode="fixed")
        learner = replace(learner, hyper=replace(learner.hyper, inner_lr=fixed))
    return learner, params


def own_name(winner: Winner, name: str) -> str:
    """The meta-parameter that learn2learn has under another name."""
    if name.startswith("metasgd.lrs."):
        network = [each for each in winner.params if not each.startswith("rates.")]
        return "rates." + network[int(name.rpartition(".")[2])]
    for prefix in ("maml.module.", "metasgd.module."):
        name = name.removeprefix(prefix)
    return name.replace("head.module.", "head.")


def found(project: Path, case: str, part: str, winner: Winner) -> dict[str, Tensor]:
    """What came out there, under the meta-parameters' names here."""
    there = libraries.found(project, case, part)
    return {own_name(winner, name): value for name, value in there.items()}


@pytest.mark.parametrize("case", CASES)
def test_predictions_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner, params = expressed(winners[case])
    expected = prediction(learner, params, task_of(winners[case]))
    there = load_file(project / case / "found.safetensors")["prediction"]
    torch.testing.assert_close(there, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("when", "progress"), [("early", EARLY), ("late", LATE)])
def test_meta_gradients_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str, when: str, progress: float
) -> None:
    learner, params = expressed(winners[case])
    moment = Moment(progress, torch.empty(0))
    grads, _ = learner.meta_grad(params, task_of(winners[case]), moment)
    there = found(project, case, when, winners[case])
    assert set(there) == set(grads)
    for name, grad in grads.items():
        torch.testing.assert_close(there[name], grad, rtol=1e-3, atol=2e-5)


def test_annealing_is_seen_in_the_meta_gradients(project: Path, winners: dict[str, Winner]) -> None:
    early, late = (
        found(project, "maml-annealed", when, winners["maml-annealed"])["encoder.conv1.conv.weight"]
        for when in ("early", "late")
    )
    assert not torch.allclose(early, late, rtol=1e-2)


def test_its_outer_loop_is_autometas(project: Path, winners: dict[str, Winner]) -> None:
    learner, params = expressed(winners["maml"])
    expected = meta_trained(learner, params, task_of(winners["maml"]))
    there = found(project, "maml", "trained", winners["maml"])
    for name, value in there.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
        assert not torch.equal(value, winners["maml"].params[name])


def test_it_trains_and_tests_on_files_of_examples(project: Path) -> None:
    printed = (project / "printed.txt").read_text().splitlines()
    assert printed[::3] == sorted(CASES)
    for case, trained, tested in zip(printed[::3], printed[1::3], printed[2::3], strict=True):
        assert trained.startswith("iteration 2: query loss ")
        metric = "mean squared error" if "regression" in case else "accuracy"
        mean, _, half, *told = tested.removeprefix(f"{metric} ").split()
        assert told == ["(95", "%,", "5", "tasks)"]
        assert float(half) >= 0
        if "protonet" in case:  # these classes differ by far more than their images
            assert float(mean) == 1
        state = load_file(project / case / "new.safetensors")
        assert set(state) == set(load_file(project / case / "weights.safetensors"))


@pytest.mark.parametrize(
    ("case", "clauses"),
    [
        ("maml", []),
        ("maml-annealed", []),
        (
            "maml-by-step",
            ["its inner rates differ from step to step (0.4, 0.1), learn2learn's MAML has one"],
        ),
        ("metasgd", []),
        ("protonet-cosine", []),
    ],
)
def test_what_is_lost_is_said(winners: dict[str, Winner], case: str, clauses: list[str]) -> None:
    assert Learn2Learn().losses(winners[case]) == clauses


def test_learned_rates_of_layers_and_augmentation_are_lost(winner: Make, tmp_path: Path) -> None:
    hyper = MAMLHyper(inner_steps=2, inner_lr=BY_LAYER, meta_lr=0.01, augment="affine")
    made = winner("maml", hyper, "conv")
    steps, layers, learned, images = Learn2Learn().losses(made)
    assert steps.startswith("its inner rates differ from step to step (0.0")
    assert layers.startswith("its inner rates differ from layer to layer (0.0")
    assert learned == ("its inner rates are learned, learn2learn's MAML leaves its rate as it is")
    assert images == "its training images are augmented (affine), the project's aren't"
    Learn2Learn().write(made, tmp_path)
    told = (tmp_path / "README.md").read_text()
    assert all(f"\n- {clause}\n" in told for clause in (steps, layers, learned, images))
    rate = made.params["inner_lr"].mean().item()
    assert f"INNER_LR = {rate:.7g}\n" in (tmp_path / "settings.py").read_text()


def test_what_a_new_training_would_lose_is_said(winners: dict[str, Winner]) -> None:
    made = winners["maml"]
    spec = made.entry["spec"]
    changed = spec | {
        "task": spec["task"] | {"within_groups": True},
        "earlier": [[2, spec["hyper"]]],
        "initial": "supernet.pt",
    }
    assert Learn2Learn().losses(replace(made, entry=made.entry | {"spec": changed})) == [
        "its tasks are each of one group of classes, the project draws from all",
        "its outer loop had other settings until meta-iteration 2, "
        "the project trains with the last",
        "its training began with weights of a supernet, the project's with random ones",
    ]


def test_a_file_with_too_few_examples_is_refused(project: Path) -> None:
    *_, told, code = (project / "refused.txt").read_text().splitlines()
    assert told.endswith(
        "error: the smallest class of the file has 2 examples, but a task takes 1 + 2"
    )
    assert code == "2"


def test_settings_are_the_winners(project: Path) -> None:
    told = (project / "protonet" / "settings.py").read_text().splitlines()
    for line in (
        'PROBLEM = "classification"',
        "INPUT_SHAPE = (1, 16, 16)",
        "WAYS = 3",
        "TRAIN_WAYS = 6  # classes of a task in training",
        "SHOTS = 1  # support examples a class (or a task)",
        "ITERATIONS = 3  # of the outer loop",
        'META_SCHEDULE = "halving"  # of the outer rate: constant, cosine or halving',
        "SCALE = 0.3  # factor of the similarities before the softmax",
    ):
        assert line in told


@pytest.mark.parametrize(
    ("name", "hyper"), [("reptile", ReptileHyper()), ("nearest", NearestHyper())]
)
def test_learners_without_a_counterpart_are_refused(
    winner: Make, tmp_path: Path, name: str, hyper: Hyper
) -> None:
    made = winner(name, hyper)
    told = (
        f"learner '{name}' can't be written for learn2learn, only anil, fomaml, maml, metasgd "
        "and protonet can: export it as 'bundle', which takes any learner"
    )
    with pytest.raises(BundleError, match=f"^{told}$"):
        Learn2Learn().check(made)
    with pytest.raises(BundleError):
        Learn2Learn().write(made, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_of_autometa(project: Path) -> None:
    assert libraries.imported(project) & {"autometa", "nni", "ray", "optuna"} == set()


def test_the_format_is_registered() -> None:
    assert FORMATS.load("learn2learn") is Learn2Learn
