"""torch.export: adaptation and prediction as one graph, for PyTorch without any of our source.

Learners that differentiate when they adapt can't be traced; of those with an encoder that is the
same for every task the file has the encoder.
"""

from __future__ import annotations

import copy
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from autometa.errors import BundleError
from autometa.export.bundle import record
from autometa.export.card import normalisation
from autometa.export.encoder import (
    adapts_by_gradients,
    check_encoder,
    elementary,
    example,
    head_loss,
    network_of,
)
from autometa.export.formats.base import Format, Winner
from autometa.export.target import put
from autometa.learners.base import REGRESSION

NAME = "torch-export"
TOLERANCE = 1e-4
MODEL = "model.pt2"
Task = tuple[Tensor, Tensor, Tensor]
README = """# {name}

`model.pt2` is {what} of {learner} ({paper}), found by autometa, as torch.export saves it.

```python
import torch

model = torch.export.load("model.pt2").module()
{call}
```

{shapes} `config.yaml` has the whole configuration, `results.json` all figures. {normalisation}
"""


@dataclass(frozen=True)
class Traced:
    """A program, and which numbers of a task are free in it."""

    program: ExportedProgram
    free: frozenset[str]


class TorchExportFormat(Format):
    """``model.pt2``: the whole learner for tasks of fixed ways if it traces, else the encoder."""

    summary: ClassVar[str] = "metric learners as one graph (.pt2), for tasks of fixed ways"
    needs: ClassVar[tuple[str, ...]] = (f"torch>={torch.__version__.partition('+')[0]}",)

    def check(self, winner: Winner) -> None:
        if adapts_by_gradients(winner):
            check_encoder(winner, NAME)

    def losses(self, winner: Winner) -> list[str]:
        return [] if whole(winner) else [head_loss(winner)]

    def write(self, winner: Winner, into: Path) -> None:
        traced = whole(winner)
        program = traced.program if traced else _encoder(winner)
        _forget_sources(program)
        torch.export.save(program, into / MODEL)
        put(into, record(winner.config, winner.result, winner.entry))
        put(into, {"README.md": _readme(winner, traced)})


class _Whole(nn.Module):
    """Adaptation to a support set, and predictions of queries."""

    def __init__(self, winner: Winner) -> None:
        super().__init__()
        encoder = winner.learner.encoder
        plain = replace(encoder, module=elementary(copy.deepcopy(encoder.module)))
        self.learner, self.ways = (replace(winner.learner, encoder=plain),), winner.spec.ways
        self.names = {name: name.replace(".", "__") for name in winner.params}
        for name, value in winner.params.items():
            self.register_buffer(self.names[name], value.clone())

    def forward(self, support_x: Tensor, support_y: Tensor, query_x: Tensor) -> Tensor:
        params = {name: self.get_buffer(own) for name, own in self.names.items()}
        (learner,) = self.learner  # in a tuple, so that its skeleton is no part of this module
        fast = learner.adapt(params, support_x, support_y, self.ways)
        return learner.predict(params, fast, query_x)


def whole(winner: Winner) -> Traced | None:
    """The learner as one graph with as many free sizes as it allows; None if it can't be traced."""
    if adapts_by_gradients(winner):
        return None
    task = example(winner)
    for free in (frozenset({"support", "queries"}), frozenset({"queries"}), frozenset[str]()):
        program = _traced(_Whole(winner), task, _shapes(winner, free))
        if program is not None and _agrees(program, winner, task, free):
            return Traced(program, free)
    return None


def _shapes(winner: Winner, free: frozenset[str]) -> tuple[dict[int, Any], ...]:
    lowest = 1 if winner.learner.problem == REGRESSION else winner.spec.ways
    support = {0: Dim("support", min=lowest)} if "support" in free else {}
    queries = {0: Dim("queries", min=1)} if "queries" in free else {}
    return support, support, queries


def _traced(
    module: nn.Module, inputs: tuple[Tensor, ...], shapes: tuple[dict[int, Any], ...]
) -> ExportedProgram | None:
    """None where torch says that it can't; the kind of its error differs from cause to cause."""
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's, of itself
        try:
            return torch.export.export(module, inputs, dynamic_shapes=shapes, strict=False)
        except Exception:
            return None


def _agrees(program: ExportedProgram, winner: Winner, task: Task, free: frozenset[str]) -> bool:
    """Whether the graph does as the learner does, also with more of what is free."""
    x, y, queries = task
    other = x.flip(0) + 0.1 * x, y.flip(0), queries.flip(0)
    support = 2 if "support" in free else 1
    more = torch.cat([x, other[0]][:support]), torch.cat([y, other[1]][:support])
    return all(
        _same(program, winner, each)
        for each in (other, (*more, torch.cat([queries] * (2 if "queries" in free else 1))))
    )


def _same(program: ExportedProgram, winner: Winner, task: Task) -> bool:
    learner, (x, y, queries) = winner.learner, task
    try:
        fast = learner.adapt(winner.params, x, y, winner.spec.ways)
        own = learner.predict(winner.params, fast, queries).detach()
        found = program.module()(x, y, queries)
    except (ValueError, RuntimeError, AssertionError):  # a size that one of them isn't for
        return False
    return torch.allclose(found, own, rtol=TOLERANCE, atol=TOLERANCE)


def _encoder(winner: Winner) -> ExportedProgram:
    """The encoder with a free number of inputs.

    Raises:
        BundleError: There is none for all tasks, or it can't be traced.
    """
    check_encoder(winner, NAME)
    x, _, _ = example(winner)
    program = _traced(network_of(winner), (x,), ({0: Dim("batch", min=1)},))
    if program is None:
        raise BundleError(f"format {NAME!r}: the encoder of {winner.spec.learner} can't be traced")
    return program


def _forget_sources(program: ExportedProgram) -> None:
    """Stack traces have the paths of the machine that it was made on."""
    for module in program.graph_module.modules():
        if isinstance(module, torch.fx.GraphModule):
            for node in module.graph.nodes:
                node.meta.pop("stack_trace", None)


def _readme(winner: Winner, traced: Traced | None) -> str:
    call = "model(support_x, support_y, query_x)" if traced else "embeddings = model(x)"
    if traced:
        call = f"{'predictions' if _regression(winner) else 'logits'} = {call}"
    return README.format(
        name=winner.entry["name"],
        what="adaptation and prediction" if traced else "the encoder alone",
        learner=type(winner.learner).__name__,
        paper=winner.learner.paper,
        call=call,
        shapes=_told(winner, traced),
        normalisation=normalisation(winner.learner),
    )


def _told(winner: Winner, traced: Traced | None) -> str:
    """Which shapes the file takes."""
    shape = ", ".join(map(str, winner.in_shape))
    pixels = "" if _regression(winner) else " in [0, 1]"
    if traced is None:
        features = winner.learner.encoder.features
        return (
            f"`x` [B, {shape}], float32{pixels}, for any B; `embeddings` [B, {features}]. "
            "How the learner goes on from embeddings isn't here: it differentiates on the way."
        )
    x, _, queries = example(winner)
    targets = f"[S, {winner.spec.ways}], float32"
    if not _regression(winner):
        targets = f"[S], int64, labels 0 … {winner.spec.ways - 1}, each at least once"
    support = "any S" if "support" in traced.free else f"S = {len(x)}"
    query = "any Q" if "queries" in traced.free else f"Q = {len(queries)}"
    return (
        f"`support_x` [S, {shape}] and `query_x` [Q, {shape}] are float32{pixels}, `support_y` is "
        f"{targets}; {support}, {query}. Other ways need another export."
    )


def _regression(winner: Winner) -> bool:
    return winner.learner.problem == REGRESSION
