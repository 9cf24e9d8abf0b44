"""Programs of torch.export predict, with torch alone, as the learner does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from clean_place import clean_python, run_there
from safetensors.torch import load_file, save_file
from torch import Tensor

from autometa.errors import BundleError
from autometa.export.encoder import adapts_by_gradients
from autometa.export.formats.base import Winner
from autometa.export.formats.torch_export import TorchExportFormat
from autometa.export.write import losses_of, write_winner
from autometa.learners.base import under
from autometa.testing.formats import FormatTestCase, expected, task_of
from autometa.testing.winners import trained

USE = """
from pathlib import Path
import torch
from safetensors.torch import load_file, save_file

for folder in sorted(path for path in Path(".").iterdir() if path.is_dir()):
    model = torch.export.load(folder / "model" / "model.pt2").module()
    tasks, found = load_file(folder / "tasks.safetensors"), {}
    for name in {key.rpartition(".")[0] for key in tasks}:
        parts = [tasks[f"{name}.{part}"] for part in ("x", "y", "queries")]
        output = model(*parts) if WHOLE[folder.name] else model(parts[2])
        found[name] = output.contiguous()
    save_file(found, folder / "found.safetensors")
"""
# learner → backbone, which sizes are free
LEARNERS = {
    "protonet": ("conv", {"support", "queries"}),
    "r2d2": ("conv", {"queries"}),
    "cnp": ("mlp", set[str]()),
    "anil": ("conv", {"queries"}),
}
ENCODERS = {"anil"}

Task = tuple[Tensor, Tensor, Tensor]


class TestTorchExportFormat(FormatTestCase):
    format = TorchExportFormat
    accepted = frozenset({"protonet", "relation"})
    same_bytes = False
    tolerance = 1e-4

    def predictions(
        self, folder: Path, support_x: Tensor, support_y: Tensor, query_x: Tensor
    ) -> Tensor:
        model: Any = torch.export.load(folder / "model.pt2").module()
        output: Tensor = model(support_x, support_y, query_x)
        return output.detach()


def tasks_of(winner: Winner, free: set[str]) -> dict[str, Task]:
    """The study's own shapes, and others where the file takes them."""
    x, y, queries = task_of(winner)
    queries = queries[: winner.spec.task["queries"] * (1 if x.dim() == 2 else winner.spec.ways)]
    tasks = {"as trained": (x, y, queries)}
    if "queries" in free:
        tasks["one query"] = (x.flip(0), y.flip(0), queries[:1])
        tasks["more queries"] = (x, y, torch.rand(11, *winner.in_shape))
    if "support" in free:
        labels = torch.tensor([2, 0, 1, 1, 0])
        tasks["other shots"] = (torch.rand(5, *winner.in_shape), labels, queries)
    return tasks


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Learner → winner, tasks, and what came out where there are torch and safetensors alone."""
    lent = ["torch", "safetensors", "numpy"]
    python = clean_python(tmp_path_factory.mktemp("torch"), lent=lent)
    project, studies = tmp_path_factory.mktemp("project"), tmp_path_factory.mktemp("studies")
    made: dict[str, Any] = {}
    for name, (backbone, free) in LEARNERS.items():
        winner = trained(studies / name, name, backbone)
        write_winner(winner, "torch-export", project / name / "model", lossy=True)
        tasks = made[name] = (winner, tasks_of(winner, free))
        parts = ("x", "y", "queries")
        tensors = {
            f"{key}.{part}": tensor.clone().contiguous()
            for key, task in tasks[1].items()
            for part, tensor in zip(parts, task, strict=True)
        }
        save_file(tensors, project / name / "tasks.safetensors")
    whole = {name: name not in ENCODERS for name in LEARNERS}
    run_there(python, f"WHOLE = {whole}\n{USE}", project)
    return {
        name: (*each, project / name / "model", load_file(project / name / "found.safetensors"))
        for name, each in made.items()
    }


@pytest.mark.parametrize("name", LEARNERS)
def test_a_program_predicts_as_the_learner_does(name: str, used: dict[str, Any]) -> None:
    winner, tasks, _, found = used[name]
    assert found.keys() == tasks.keys()
    for key, task in tasks.items():
        own = expected(winner, task)
        if name in ENCODERS:
            own = winner.learner.encoder(under("encoder", winner.params), task[2]).detach()
        torch.testing.assert_close(found[key], own, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", LEARNERS)
def test_the_readme_says_which_shapes_the_file_takes(name: str, used: dict[str, Any]) -> None:
    winner, _, folder, _ = used[name]
    told = (folder / "README.md").read_text(encoding="utf-8")
    if name in ENCODERS:
        assert "is the encoder alone of ANIL" in told
        assert "for any B" in told
        return
    free = LEARNERS[name][1]
    assert "is adaptation and prediction of" in told
    assert ("any S" in told) == ("support" in free)
    assert ("any Q" in told) == ("queries" in free)
    assert f"S = {len(task_of(winner)[0])}" in told or "support" in free


def test_what_isnt_the_encoder_must_be_agreed_to(tmp_path: Path) -> None:
    winner = trained(tmp_path / "study", "anil")
    assert losses_of(winner, "torch-export") == [
        "how anil makes predictions of embeddings (its parameters head, inner_lr) would be lost"
    ]
    assert losses_of(trained(tmp_path / "other", "protonet"), "torch-export") == []


@pytest.mark.parametrize("name", ["maml", "reptile"])
def test_learners_that_adapt_their_encoder_are_refused_by_name(name: str, tmp_path: Path) -> None:
    winner = trained(tmp_path / "study", name)
    assert adapts_by_gradients(winner)
    with pytest.raises(BundleError, match=f"but {name} has none"):
        write_winner(winner, "torch-export", tmp_path / "to")
