"""A learner's encoder by itself: whether adapting leaves it alone, and its network with weights."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from autometa.backbones.layers import EPSILON, BatchNorm, GroupNorm
from autometa.errors import BundleError
from autometa.export.formats.base import Winner
from autometa.learners.base import REGRESSION, Encoder, Learner, Params, under

PREFIX = "encoder"


@dataclass(frozen=True)
class _Watched(Encoder):
    """Keeps the parameters that it is called with."""

    seen: list[Params] = field(default_factory=list)

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        self.seen.append(params)
        return super().__call__(params, x)


def example(winner: Winner) -> tuple[Tensor, Tensor, Tensor]:
    """Support set and queries of a task of noise, with the study's ways, shots and queries."""
    generator = torch.Generator().manual_seed(0)
    ways, task = winner.spec.ways, winner.spec.task
    regression = winner.learner.problem == REGRESSION
    classes = 1 if regression else ways
    x, queries = (
        torch.rand(classes * task[each], *winner.in_shape, generator=generator)
        for each in ("shots", "queries")
    )
    if regression:
        return x, torch.rand(len(x), ways, generator=generator), queries
    return x, torch.arange(ways).repeat_interleave(task["shots"]), queries


def keeps_encoder(
    learner: Learner[Any], params: Params, task: tuple[Tensor, Tensor, Tensor], ways: int
) -> bool:
    """Whether inputs are embedded by one and the same network, whatever the task.

    Seen from a task (support inputs and targets, queries): every call of the encoder has the
    meta-parameters themselves.
    """
    watched = _Watched(learner.encoder.module, learner.encoder.features)
    learner = replace(learner, encoder=watched)
    x, y, queries = task
    learner.predict(params, learner.adapt(params, x, y, ways), queries)
    own = under(PREFIX, params)
    return bool(watched.seen) and all(_same(given, own) for given in watched.seen)


def _same(params: Params, own: Params) -> bool:
    return params.keys() == own.keys() and all(params[name] is own[name] for name in own)


def check_encoder(winner: Winner, form: str) -> None:
    """Refuse a learner that has no encoder of its own for all tasks.

    Raises:
        BundleError: With the learner's name.
    """
    if not keeps_encoder(winner.learner, winner.params, example(winner), winner.spec.ways):
        raise BundleError(
            f"format {form!r} holds an encoder that is the same for every task, but "
            f"{winner.spec.learner} has none: take a metric learner (protonet, matching, …), "
            "or the format 'bundle'"
        )


def rest_of(params: Params) -> list[str]:
    """Names of what the parameters beside the encoder's belong to: ``relation``, ``log_scale``."""
    others = (name for name in params if not name.startswith(f"{PREFIX}."))
    return list(dict.fromkeys(name.partition(".")[0] for name in others))


def head_loss(winner: Winner) -> str:
    """What is lost of a winner where only its encoder is written, as a clause."""
    beside = rest_of(winner.params)
    own = f" (its parameters {', '.join(beside)})" if beside else ""
    return f"how {winner.spec.learner} makes predictions of embeddings{own} would be lost"


def network_of(winner: Winner) -> nn.Module:
    """The encoder [B, …] → [B, features] as a module with its weights, of elementary operations."""
    network = copy.deepcopy(winner.learner.encoder.module).to_empty(device="cpu")
    network.load_state_dict(under(PREFIX, winner.params))
    return elementary(network).eval()


def elementary(network: nn.Module) -> nn.Module:
    """The same network with our normalisations as elementary operations, in its place.

    Exporters write down what torch's own operator of batch statistics would do in training, which
    few runtimes have.
    """
    for name, layer in list(network.named_modules()):
        if isinstance(layer, BatchNorm | GroupNorm):
            parent, _, last = name.rpartition(".")
            setattr(network.get_submodule(parent), last, _Normalised(layer))
    return network


class _Normalised(nn.Module):
    """Batch or group normalisation as it is under ``torch.func``."""

    def __init__(self, layer: BatchNorm | GroupNorm) -> None:
        super().__init__()
        self.weight, self.bias = layer.weight, layer.bias
        self.groups = max(1, layer.channels // 8) if isinstance(layer, GroupNorm) else 0

    def forward(self, x: Tensor) -> Tensor:
        per_channel = (-1, *[1] * (x.dim() - 2))
        weight, bias = self.weight.reshape(per_channel), self.bias.reshape(per_channel)
        if self.groups:
            parts = x.reshape(x.shape[0], self.groups, -1)
            return _standardised(parts, (2,)).reshape(x.shape) * weight + bias
        return _standardised(x, (0, *range(2, x.dim()))) * weight + bias


def _standardised(x: Tensor, over: Iterable[int]) -> Tensor:
    centred = x - x.mean(tuple(over), keepdim=True)
    return centred * torch.rsqrt(centred.square().mean(tuple(over), keepdim=True) + EPSILON)


def adapts_by_gradients(winner: Winner) -> bool:
    """Whether a learner differentiates when it adapts or predicts."""
    x, y, queries = example(winner)
    with _Gradients() as seen:
        fast = winner.learner.adapt(winner.params, x, y, winner.spec.ways)
        winner.learner.predict(winner.params, fast, queries)
    return bool(seen.any)


class _Gradients(TorchFunctionMode):
    """Notes whether any of torch's functions runs on what is to be differentiated."""

    any: bool = False

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        graph = isinstance(result, Tensor) and result.requires_grad
        self.any |= graph or torch._C._are_functorch_transforms_active()
        return result
