"""A winner as one of easyfsl's classifiers gives autometa's predictions and gradients there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libraries
import pytest
import torch
from libraries import WORK, at_work, meta_trained, prediction, task_of
from safetensors.torch import load_file
from torch import Tensor

from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Winner
from autometa.export.formats.easyfsl import EasyFsl
from autometa.learners.base import Hyper
from autometa.learners.maml import MAMLHyper
from autometa.learners.matching import MatchingHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.relation import RelationHyper

Make = Callable[..., Winner]

CASES: dict[str, tuple[str, Hyper]] = {
    "protonet": (
        "protonet",
        ProtoNetHyper(
            way_factor=2,
            scale=0.3,
            meta_optimizer="sgd",
            meta_weight_decay=0.1,
            meta_batch=2,
            meta_lr=0.1,
        ),
    ),
    "protonet-cosine": (
        "protonet",
        ProtoNetHyper(distance="cosine", scale=8.0, learn_scale=True),
    ),
    "matching": ("matching", MatchingHyper(scale=5.0)),
    "matching-full-context": (
        "matching",
        MatchingHyper(scale=3.0, full_context=True, processing_steps=3),
    ),
    "relation": ("relation", RelationHyper(width=20, hidden=6)),
    "relation-cross-entropy": ("relation", RelationHyper(loss_type="cross_entropy")),
}

# The index's torchvision may be built for another build of torch than the one that is lent. What
# easyfsl takes of it, blocks of ResNets, needs none of its compiled operators, but to import it
# their names must be known.
SCRIPT = """
import torch
try:
    import torchvision
except RuntimeError:
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        operators.define(name + "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    for name in [each for each in sys.modules if each.startswith("torchvision")]:
        del sys.modules[name]

import easyfsl.methods

for folder, train, task in projects():
    method = train.load()
    assert isinstance(method, easyfsl.methods.FewShotClassifier)
    method.process_support_set(*task[:2])
    found = {"prediction": method(task[2]).detach()}
    train.task_loss(method, task).backward()
    found |= gradients(method, "grad") | trained(train, method, task)
    conclude(folder, train, found)
"""


@pytest.fixture(scope="module")
def project(winners: dict[str, Winner], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder a case, with what came out when easyfsl was at work there."""
    home = tmp_path_factory.mktemp("easyfsl")
    python = libraries.environment(home / "venv", "easyfsl==1.5.0")
    return at_work(python, home, EasyFsl(), winners, WORK + SCRIPT)


def own_name(name: str) -> str:
    """The meta-parameter that easyfsl has under another name."""
    for theirs, ours in (
        ("backbone.encoder.", "encoder."),
        ("backbone.", "encoder."),
        ("relation_module.", "relation."),
        ("query_features_encoding_cell.", "attention."),
    ):
        if name.startswith(theirs):
            return ours + name.removeprefix(theirs)
    if name.startswith("support_features_encoder."):
        part = name.removeprefix("support_features_encoder.")
        cell = "backward" if part.endswith("_reverse") else "forward"
        return f"{cell}.{part.removesuffix('_reverse').removesuffix('_l0')}"
    return name


def found(project: Path, case: str, part: str) -> dict[str, Tensor]:
    there = libraries.found(project, case, part)
    return {own_name(name): value for name, value in there.items()}


@pytest.mark.parametrize("case", CASES)
def test_predictions_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner, params = winners[case].learner, winners[case].params
    expected = prediction(learner, params, task_of(winners[case]))
    if case == "relation":  # there the scores themselves
        expected = expected.sigmoid()
    there = load_file(project / case / "found.safetensors")["prediction"]
    torch.testing.assert_close(there, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
def test_gradients_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner, params = winners[case].learner, winners[case].params
    grads, _ = learner.meta_grad(params, task_of(winners[case]))
    there = found(project, case, "grad")
    assert set(there) == set(grads)
    for name, grad in grads.items():
        torch.testing.assert_close(there[name], grad, rtol=1e-3, atol=2e-5)


def test_its_outer_loop_is_autometas(project: Path, winners: dict[str, Winner]) -> None:
    made = winners["protonet"]
    expected = meta_trained(made.learner, made.params, task_of(made))
    for name, value in found(project, "protonet", "trained").items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
        assert torch.equal(value, made.params[name]) == (name == "log_scale")


def test_it_trains_and_tests_on_files_of_examples(project: Path) -> None:
    printed = (project / "printed.txt").read_text().splitlines()
    assert printed[::3] == sorted(CASES)
    for case, trained, tested in zip(printed[::3], printed[1::3], printed[2::3], strict=True):
        assert trained.startswith("iteration 2: loss ")
        word, mean, *told = tested.split()
        assert (word, told) == ("accuracy", ["(5", "tasks)"])
        if "protonet" in case:  # these classes differ by far more than their images
            assert float(mean) == 1
        state = load_file(project / case / "new.safetensors")
        assert set(state) == set(load_file(project / case / "weights.safetensors"))


def test_only_what_training_does_is_lost(winner: Make, winners: dict[str, Winner]) -> None:
    for made in winners.values():
        assert EasyFsl().losses(made) == []
    augmented = winner("protonet", ProtoNetHyper(augment="affine"))
    assert EasyFsl().losses(augmented) == [
        "its training images are augmented (affine), the project's aren't"
    ]


def test_learners_without_a_counterpart_are_refused(winner: Make, tmp_path: Path) -> None:
    told = (
        "^learner 'maml' can't be written for easyfsl, only matching, protonet and relation can: "
        "export it as 'bundle', which takes any learner$"
    )
    with pytest.raises(BundleError, match=told):
        EasyFsl().write(winner("maml", MAMLHyper(inner_steps=1)), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_nothing_of_autometa(project: Path) -> None:
    for case in CASES:
        absent = {"autometa", "nni", "ray", "optuna"}
        assert libraries.imported(project / case) & absent == set()


def test_the_format_is_registered() -> None:
    assert FORMATS.load("easyfsl") is EasyFsl
