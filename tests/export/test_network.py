"""A network written as source is the same network: names, order and outputs."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autometa.backbones import BACKBONES, layers
from autometa.backbones.base import Option, Shape
from autometa.errors import BundleError
from autometa.export.network import layers_used, source_of
from autometa.testing.backbones import random_sample

SPACES: dict[str, Shape] = {
    "cell": (3, 9, 9),
    "conv": (3, 12, 12),
    "conv1d": (3, 12),
    "conv4": (1, 16, 16),
    "mlp": (2,),
    "resnet": (1, 12, 12),
}
SEEDS = range(24)


def sample_of(name: str, seed: int) -> dict[str, Option]:
    return random_sample(BACKBONES.load(name)(), SPACES[name], seed)


def executed(network: nn.Module) -> nn.Module:
    """The class in the source, made with torch and the copied ``layers.py`` alone."""
    copied: dict[str, Any] = {"__name__": "layers"}
    exec(inspect.getsource(layers), copied)
    scope: dict[str, Any] = {"__name__": "model", "torch": torch, "nn": nn, "Tensor": Tensor}
    exec(source_of(network), scope | {n: copied[n] for n in layers_used(network)}, scope)
    made = scope["Network"]()
    assert isinstance(made, nn.Module)
    return made


def check_same(network: nn.Module, x: Tensor) -> None:
    again = executed(network)
    names = [name for name, _ in network.named_parameters()]
    assert [name for name, _ in again.named_parameters()] == names
    again.load_state_dict(network.state_dict())
    torch.testing.assert_close(again(x), network(x), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", SPACES)
@pytest.mark.parametrize("seed", SEEDS)
def test_random_networks_are_the_same_in_source(name: str, seed: int) -> None:
    torch.manual_seed(seed)
    network = BACKBONES.load(name)().network(sample_of(name, seed), SPACES[name])
    check_same(network, torch.rand(4, *SPACES[name]))


@pytest.mark.parametrize("name", SPACES)
def test_these_samples_have_every_option(name: str) -> None:
    choices = BACKBONES.load(name)().choices(SPACES[name])
    wanted = {(kind(label), option) for label, options in choices.items() for option in options}
    samples = (sample_of(name, seed) for seed in SEEDS)
    assert {(kind(label), option) for each in samples for label, option in each.items()} == wanted


def kind(label: str) -> str:
    """What a label says of a block or an edge, whichever it is: ``conv3/kernel`` → ``kernel``."""
    return label.rpartition("/")[2].partition("_")[0]


class Backwards(nn.Module):
    """Runs its layers in another order than it has them, on an input of another name."""

    def __init__(self) -> None:
        super().__init__()
        self.second = nn.Linear(4, 4)
        self.first = nn.Sequential(nn.Linear(2, 4), nn.Tanh())

    def forward(self, images: Tensor) -> Tensor:
        return F.relu(self.second(self.first(images))).flatten(1)


def test_parameters_keep_their_order_whatever_the_forward_does() -> None:
    check_same(Backwards(), torch.rand(3, 2))


class OwnParameter(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class OwnBuffer(nn.Module):
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(2))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale


class Unused(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.idle = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return x


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


class Counting(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x / len(x)


class Bounded(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.clamp(max=float("inf"))


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, y: Tensor) -> Tensor:
        return x + y


@pytest.mark.parametrize(
    ("network", "told"),
    [
        (OwnParameter(), "parameter 'scale' belongs to no layer"),
        (OwnBuffer(), "tensor 'scale' belongs to no layer"),
        (Unused(), "parameter 'idle.weight' belongs to no layer"),
        (Branching(), "can't be traced"),
        (Counting(), "can't be traced"),
        (Bounded(), "uses 'inf'"),
        (TwoInputs(), "takes \\['x', 'y'\\], but must take one tensor"),
        (nn.Sequential(nn.UpsamplingBilinear2d(scale_factor=2)), "can't be written as Python"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), "isn't the same when written"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_would_be_lost_is_refused(network: nn.Module, told: str) -> None:
    with pytest.raises(BundleError, match=told) as caught:
        source_of(network)
    assert "\n" not in str(caught.value)
