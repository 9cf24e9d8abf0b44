"""A winner in torchmeta's style predicts and learns as autometa does, with torch alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import libraries
import pytest
import torch
from libraries import EARLY, LATE, WORK, at_work, meta_trained, prediction, task_of
from safetensors.torch import load_file
from torch import Tensor

from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Winner
from autometa.export.formats.torchmeta import TorchMeta
from autometa.learners.anil import ANILHyper
from autometa.learners.base import Hyper, Moment
from autometa.learners.fomaml import FOMAMLHyper
from autometa.learners.maml import MAMLHyper
from autometa.learners.matching import MatchingHyper
from autometa.learners.metasgd import MetaSGDHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.learners.rates import RateVector

Make = Callable[..., Winner]

ONE = RateVector("searched", "scalar", ((0.1,),))
BY_STEP = RateVector("searched", "scalar", ((0.4,), (0.1,)))
LEARNED = RateVector("learned", "layer", ((0.05,),))
BY_PARAMETER = RateVector("learned", "parameter", ((0.05,),))

CASES: dict[str, tuple[str, Hyper, str]] = {
    "maml": (
        "maml",
        MAMLHyper(
            inner_steps=2,
            inner_lr=LEARNED,
            evaluation_steps=3,
            meta_optimizer="sgd",
            meta_schedule="cosine",
            meta_weight_decay=0.1,
            meta_lr=0.1,
            meta_batch=2,
        ),
        "conv",
    ),
    "maml-annealed": ("maml", MAMLHyper(inner_steps=2, inner_lr=BY_STEP, order="annealed"), "conv"),
    "maml-regression": ("maml", MAMLHyper(inner_steps=2, inner_lr=ONE), "mlp"),
    "fomaml": ("fomaml", FOMAMLHyper(inner_steps=2, inner_lr=LEARNED), "conv"),
    "anil": ("anil", ANILHyper(inner_steps=3, inner_lr=BY_PARAMETER), "conv"),
    "metasgd": (
        "metasgd",
        MetaSGDHyper(inner_steps=2, meta_weight_decay=0.1, meta_optimizer="sgd", meta_lr=0.1),
        "conv",
    ),
    "protonet": ("protonet", ProtoNetHyper(way_factor=2, scale=0.3), "conv"),
    "protonet-cosine": (
        "protonet",
        ProtoNetHyper(distance="cosine", scale=8.0, learn_scale=True),
        "conv",
    ),
}

SCRIPT = """
for folder, train, task in projects():
    method = train.load()
    found = {"prediction": method(*task[:3]).detach()}
    found |= meta_gradients(train, method, task) | trained(train, method, task)
    fresh = train.Method().state_dict()
    found |= {f"fresh/{n}": v for n, v in fresh.items() if n == "inner_lr" or "rates" in n}
    conclude(folder, train, found)
"""

# torchmeta's own functions beside those of the export; its packages without their __init__, which
# would import data sets and what they need.
BESIDE = """
import sys, types
import torch
from torch import nn

for name in ("torchmeta", "torchmeta.utils"):
    package = types.ModuleType(name)
    package.__path__ = [f"{RELEASE}/{name.replace('.', '/')}"]
    sys.modules[name] = package
sys.path.insert(0, EXPORT)
from collections import OrderedDict
import torchmeta_style as ours
from torchmeta.modules import MetaLinear, MetaSequential
from torchmeta.utils import gradient_based, prototype

class Mine(ours.MetaModule):
    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def plain(self, x):
        return self.layers(x)

torch.manual_seed(0)
theirs = MetaSequential(MetaLinear(3, 4), nn.Tanh(), MetaLinear(4, 2))
mine = Mine(nn.Sequential(nn.Linear(3, 4), nn.Tanh(), nn.Linear(4, 2)))
mine.layers.load_state_dict(theirs.state_dict())
x, y = torch.randn(6, 3), torch.randn(6, 2)
sizes = {name: torch.rand(()) for name, _ in theirs.meta_named_parameters()}

def adapted(model, update, prefix, first, size):
    params = None
    for _ in range(2):
        loss = nn.functional.mse_loss(model(x, params=params), y)
        params = update(model, loss, params=params, step_size=size, first_order=first)
    loss = nn.functional.mse_loss(model(x, params=params), y)
    loss.backward()
    grads = {name.removeprefix(prefix): p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    return {name.removeprefix(prefix): value.detach() for name, value in params.items()}, grads

for first in (False, True):
    for rate in (0.3, sizes):
        named = rate if rate == 0.3 else {f"layers.{name}": each for name, each in rate.items()}
        there = adapted(theirs, gradient_based.gradient_update_parameters, "", first, rate)
        here = adapted(mine, ours.gradient_update_parameters, "layers.", first, named)
        for one, other in zip(there, here):
            assert set(one) == set(other)
            for name in one:
                torch.testing.assert_close(other[name], one[name])

embedded, targets = torch.randn(2, 6, 5), torch.tensor([[0, 1, 2, 0, 1, 2], [1, 1, 0, 0, 0, 0]])
torch.testing.assert_close(
    ours.get_prototypes(embedded, targets, 3), prototype.get_prototypes(embedded, targets, 3)
)
print("the same")
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An interpreter that has no more than what is lent."""
    return libraries.environment(tmp_path_factory.mktemp("torchmeta") / "venv")


@pytest.fixture(scope="module")
def project(
    python: Path, winners: dict[str, Winner], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder a case, with what came out there."""
    home = tmp_path_factory.mktemp("projects")
    return at_work(python, home, TorchMeta(), winners, WORK + SCRIPT, "-W", "error")


def found(project: Path, case: str, part: str) -> dict[str, Tensor]:
    """What came out there, under the meta-parameters' names here."""
    there = libraries.found(project, case, part)
    return {n.removeprefix("model.").replace("/", "."): value for n, value in there.items()}


@pytest.mark.parametrize("case", CASES)
def test_predictions_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner, params = winners[case].learner, winners[case].params
    expected = prediction(learner, params, task_of(winners[case]))
    there = load_file(project / case / "found.safetensors")["prediction"]
    torch.testing.assert_close(there, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(("when", "progress"), [("early", EARLY), ("late", LATE)])
def test_meta_gradients_there_are_autometas(
    project: Path, winners: dict[str, Winner], case: str, when: str, progress: float
) -> None:
    learner, params = winners[case].learner, winners[case].params
    moment = Moment(progress, torch.empty(0))
    grads, _ = learner.meta_grad(params, task_of(winners[case]), moment)
    there = found(project, case, when)
    assert set(there) == set(grads)
    for name, grad in grads.items():
        torch.testing.assert_close(there[name], grad, rtol=1e-3, atol=2e-5)


@pytest.mark.parametrize("case", ["maml", "metasgd"])
def test_its_outer_loop_is_autometas(project: Path, winners: dict[str, Winner], case: str) -> None:
    made = winners[case]
    expected = meta_trained(made.learner, made.params, task_of(made))
    there = found(project, case, "trained")
    assert set(there) == set(made.params)
    for name, value in there.items():
        torch.testing.assert_close(value, expected[name], rtol=1e-3, atol=1e-4)
        if name.endswith("conv.weight"):
            assert not torch.equal(value, made.params[name])


@pytest.mark.parametrize("case", ["maml", "maml-annealed", "anil", "metasgd"])
def test_a_new_training_begins_with_the_winners_rates(
    project: Path, winners: dict[str, Winner], case: str
) -> None:
    learner = winners[case].learner
    initial = learner.init(3, torch.Generator())
    there = found(project, case, "fresh")
    assert there
    for name, value in there.items():
        assert torch.equal(value, initial[name])


def test_it_trains_and_tests_on_files_of_examples(project: Path) -> None:
    printed = (project / "printed.txt").read_text().splitlines()
    assert printed[::3] == sorted(CASES)
    for case, trained, tested in zip(printed[::3], printed[1::3], printed[2::3], strict=True):
        assert trained.startswith("iteration 2: query loss ")
        metric = "mean squared error" if "regression" in case else "accuracy"
        mean, *_ = tested.removeprefix(f"{metric} ").split()
        if "protonet" in case:  # these classes differ by far more than their images
            assert float(mean) == 1


def test_its_functions_are_torchmetas(python: Path, project: Path, tmp_path: Path) -> None:
    release = ("--no-deps", "--target", str(tmp_path), "torchmeta==1.8.0")
    libraries.pip(python, "install", *release)
    export = str(project / "maml")
    code = f"RELEASE, EXPORT = {str(tmp_path)!r}, {export!r}\n{BESIDE}"
    assert libraries.run(python, tmp_path, "-c", code) == "the same\n"


def test_nothing_of_the_method_is_lost(winners: dict[str, Winner]) -> None:
    for made in winners.values():
        assert TorchMeta().losses(made) == []


def test_other_learners_are_refused(winner: Make, tmp_path: Path) -> None:
    told = (
        "^learner 'matching' can't be written for torchmeta, only anil, fomaml, maml, metasgd and "
        "protonet can: export it as 'bundle', which takes any learner$"
    )
    with pytest.raises(BundleError, match=told):
        TorchMeta().write(winner("matching", MatchingHyper()), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_it_needs_torch_alone(project: Path) -> None:
    own = {"train", "method", "network", "layers", "settings", "episodes", "outer"}
    standard = {"__future__", "argparse", "collections", "itertools", "math", "pathlib", "typing"}
    for case in CASES:
        used = libraries.imported(project / case)
        assert used - own - standard == {"torch", "torchmeta_style", "safetensors"}


def test_the_format_is_registered() -> None:
    assert FORMATS.load("torchmeta") is TorchMeta
