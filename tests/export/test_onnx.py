"""Encoders as ONNX, run by onnxruntime without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from clean_place import clean_python, run_there
from torch import Tensor, nn

from autometa.errors import BundleError
from autometa.export.encoder import keeps_encoder, network_of
from autometa.export.formats.base import Winner
from autometa.export.formats.onnx import OnnxFormat, exported
from autometa.export.write import write_winner
from autometa.learners import LEARNERS
from autometa.learners.base import under
from autometa.learners.protonet import ProtoNetHyper
from autometa.testing.formats import FormatTestCase, expected, task_of
from autometa.testing.small import small_encoder, small_tasks
from autometa.testing.winners import trained

EMBED = {
    "anil", "cnp", "finetune", "imp", "leo", "mann", "matching", "metaoptnet", "protonet", "r2d2",
    "relation", "siamese", "snail", "versa",
}  # fmt: skip
USE = """
import importlib, json, sys
from pathlib import Path
import numpy as np
import onnxruntime

assert importlib.util.find_spec("torch") is None
for folder in sorted(path for path in Path(".").iterdir() if path.is_dir()):
    task = np.load(folder / "task.npz")
    session = onnxruntime.InferenceSession(str(folder / "model" / "encoder.onnx"))
    embed = lambda x: session.run(["embeddings"], {"inputs": x})[0]
    found = {"all": embed(task["queries"]), "one": embed(task["queries"][:1])}
    if (folder / "model" / "predict.py").exists():
        head = importlib.import_module(f"{folder.name}.model.predict")
        prototypes = head.adapt(task["x"], task["y"])
        found["logits"] = head.predict(prototypes, task["queries"])
    np.savez(folder / "found.npz", **found)
"""


@pytest.fixture(scope="module")
def writers() -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name, reason=f"{name} isn't here: pip install 'autometa[onnx]'")


@pytest.mark.usefixtures("writers")
class TestOnnxFormat(FormatTestCase):
    format = OnnxFormat
    accepted = frozenset({"protonet", "relation"})


def winner_of(name: str, folder: Path) -> Winner:
    hyper = ProtoNetHyper(distance="cosine", scale=8.0, learn_scale=True)
    if name == "cosine":
        return trained(folder, "protonet", hyper=hyper)
    if name == "numbers":
        return trained(folder, "cnp", "mlp")
    return trained(folder, name)


NAMES = ["protonet", "cosine", "relation", "numbers"]


@pytest.fixture(scope="module")
def used(writers: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Name → winner, and what came out where onnxruntime is, but neither torch nor autometa."""
    lent = ["numpy", "protobuf", "packaging"]
    python = clean_python(tmp_path_factory.mktemp("onnx"), OnnxFormat.needs, lent)
    project, studies = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("studies")
    winners = {name: winner_of(name, studies / name) for name in NAMES}
    for name, winner in winners.items():
        write_winner(winner, "onnx", project / name / "model", lossy=True)
        x, y, queries = task_of(winner)
        np.savez(project / name / "task.npz", x=x.numpy(), y=y.numpy(), queries=queries.numpy())
    run_there(python, USE, project)
    return {name: (won, np.load(project / name / "found.npz")) for name, won in winners.items()}


@pytest.mark.parametrize("name", NAMES)
def test_onnxruntime_embeds_as_the_encoder_does(name: str, used: dict[str, Any]) -> None:
    winner, found = used[name]
    _, _, queries = task_of(winner)
    encoder, params = winner.learner.encoder, under("encoder", winner.params)
    for key, x in {"all": queries, "one": queries[:1]}.items():
        embedded: Tensor = encoder(params, x).detach()
        torch.testing.assert_close(torch.from_numpy(found[key]), embedded, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["protonet", "cosine"])
def test_numpy_predicts_as_the_learner_does(name: str, used: dict[str, Any]) -> None:
    winner, found = used[name]
    logits = torch.from_numpy(found["logits"])
    torch.testing.assert_close(logits, expected(winner, task_of(winner)), rtol=1e-4, atol=1e-4)


def test_what_isnt_the_encoder_must_be_agreed_to(tmp_path: Path, writers: None) -> None:
    winner = trained(tmp_path / "study", "relation")
    told = r"how relation makes predictions of embeddings \(its parameters relation\) would be lost"
    with pytest.raises(BundleError, match=told):
        write_winner(winner, "onnx", tmp_path / "to")


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


def test_a_network_that_onnx_has_no_words_for_is_refused(writers: None) -> None:
    with pytest.raises(BundleError, match="the encoder can't be written as ONNX: ") as raised:
        exported(Branching(), torch.rand(3, 2))
    assert "\n" not in str(raised.value)


def test_without_the_packages_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("autometa.export.formats.onnx.WRITERS", ("onnx", "no_such_package"))
    with pytest.raises(BundleError, match=r"pip install 'autometa\[onnx\]'"):
        OnnxFormat().check(trained(tmp_path / "study", "protonet"))


@pytest.mark.parametrize("name", list(LEARNERS))
def test_learners_that_keep_their_encoder_are_known_by_what_they_do(name: str) -> None:
    kind = LEARNERS.load(name)
    learner = kind(small_encoder("classification"), kind.hyper_type(), "classification", 6)
    task = next(iter(small_tasks("classification").unbind()))
    params = learner.init(task.ways, torch.Generator().manual_seed(0))
    params = {key: value.double() for key, value in params.items()}
    given = (task.support_x, task.support_y, task.query_x)
    assert keeps_encoder(learner, params, given, task.ways) == (name in EMBED)


def test_a_learner_without_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="but maml has none: take a metric learner"):
        OnnxFormat().check(trained(tmp_path / "study", "maml"))


def test_the_network_alone_is_the_encoder(tmp_path: Path) -> None:
    winner = trained(tmp_path / "study", "protonet")
    x = task_of(winner)[0]
    own = winner.learner.encoder(under("encoder", winner.params), x)
    torch.testing.assert_close(network_of(winner)(x), own, rtol=1e-5, atol=1e-5)
    assert not any(p is q for p in network_of(winner).parameters() for q in winner.params.values())
