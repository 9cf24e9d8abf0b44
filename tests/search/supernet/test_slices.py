"""Slices of shared weights against networks written by hand."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import functional_call

from autometa.backbones import BACKBONES
from autometa.backbones.base import Sample, Shape
from autometa.config import LimitsConfig
from autometa.learners.base import Params
from autometa.search.space import BackboneChoices, RandomSuggest
from autometa.search.supernet.paths import Paths
from autometa.search.supernet.slices import initial_shared, largest_layers, scattered, sliced

SHAPES: dict[str, Shape] = {"conv": (1, 14, 14), "mlp": (1,), "resnet": (3, 16, 16)}


def paths_of(name: str) -> Paths:
    space = BACKBONES.load(name)()
    shape = SHAPES[name]
    return Paths(name, BackboneChoices(space, shape, space.choices(shape)), LimitsConfig())


PATHS = {name: paths_of(name) for name in SHAPES}
SHARED = {
    name: initial_shared(largest_layers(paths.covering()), torch.Generator().manual_seed(0))
    for name, paths in PATHS.items()
}


def two_blocks(**over: Any) -> dict[str, Any]:
    """A network of 16 channels: a convolution of size 3, then a separable one with a shortcut."""
    sample = {"activation": "silu", "depth": 2, "norm": "group", "pool": "avg", "width": 16}
    first = {"conv1/kernel": 3, "conv1/operator": "conv", "conv1/skip": False}
    second = {"conv2/kernel": 3, "conv2/operator": "separable", "conv2/skip": True}
    return {**sample, **first, **second, **over}


def by_hand(shared: Params, x: Tensor) -> Tensor:
    """:func:`two_blocks` with torch's functions, its weights cut out of the shared ones by hand."""

    def at(name: str) -> Tensor:
        return shared[name]

    def tail(x: Tensor, block: str, shortcut: Tensor | float) -> Tensor:
        scale, shift = (at(f"{block}.norm@GroupNorm.{part}")[:16] for part in ("weight", "bias"))
        return F.avg_pool2d(F.silu(F.group_norm(x, 2, scale, shift) + shortcut), 2)

    first = at("conv1.conv@Conv2d.weight")[:16, :, 1:4, 1:4]
    x = tail(F.conv2d(x, first, at("conv1.conv@Conv2d.bias")[:16], padding=1), "conv1", 0.0)
    depthwise = at("conv2.conv.0@Conv2d-grouped.weight")[:16, :, 1:4, 1:4]
    bias = at("conv2.conv.0@Conv2d-grouped.bias")[:16]
    mixed = F.conv2d(x, depthwise, bias, padding=1, groups=16)
    pointwise, bias = (at(f"conv2.conv.1@Conv2d.{part}")[:16] for part in ("weight", "bias"))
    mixed = F.conv2d(mixed, pointwise[:, :16], bias)
    skip, bias = (at(f"conv2.shortcut@Conv2d.{part}")[:16] for part in ("weight", "bias"))
    return tail(mixed, "conv2", F.conv2d(x, skip[:, :16], bias)).flatten(1)


def test_a_network_of_slices_is_the_one_written_by_hand() -> None:
    shared, x = SHARED["conv"], torch.rand(4, *SHAPES["conv"])
    network = PATHS["conv"].network(two_blocks())
    ours = functional_call(network, sliced(shared, network), (x,))
    torch.testing.assert_close(ours, by_hand(shared, x), atol=1e-6, rtol=0)


def test_a_network_of_slices_is_the_one_alone_with_copied_weights() -> None:
    shared, x = SHARED["conv"], torch.rand(4, *SHAPES["conv"])
    skeleton = PATHS["conv"].network(two_blocks(depth=2))
    alone = skeleton.to_empty(device="cpu")
    with torch.no_grad():
        for name, value in alone.named_parameters():
            value.copy_(sliced(shared, skeleton)[name])
        expected = alone(x)
    ours = functional_call(PATHS["conv"].network(two_blocks()), sliced(shared, skeleton), (x,))
    torch.testing.assert_close(ours, expected, atol=1e-6, rtol=0)


def test_gradients_reach_exactly_the_slices_that_a_network_uses() -> None:
    shared = {name: value.clone().requires_grad_() for name, value in SHARED["conv"].items()}
    network, x = PATHS["conv"].network(two_blocks()), torch.rand(4, *SHAPES["conv"])
    functional_call(network, sliced(shared, network), (x,)).square().sum().backward()
    touched = {name: value.grad for name, value in shared.items() if value.grad is not None}
    assert set(touched) == {
        f"{layer}.{part}"
        for layer in (
            "conv1.conv@Conv2d",
            "conv1.norm@GroupNorm",
            "conv2.conv.0@Conv2d-grouped",
            "conv2.conv.1@Conv2d",
            "conv2.norm@GroupNorm",
            "conv2.shortcut@Conv2d",
        )
        for part in ("weight", "bias")
    }
    kernel = touched["conv1.conv@Conv2d.weight"]
    assert kernel.shape == (128, 1, 5, 5)
    assert (kernel[:16, :, 1:4, 1:4] != 0).all()
    assert kernel.count_nonzero() == 16 * 9
    assert touched["conv2.shortcut@Conv2d.weight"].count_nonzero() == 16 * 16


def test_scattered_values_lie_where_autograd_would_put_them() -> None:
    shared = {name: value.clone().requires_grad_() for name, value in SHARED["conv"].items()}
    network, x = PATHS["conv"].network(two_blocks()), torch.rand(4, *SHAPES["conv"])
    own = sliced(shared, network)
    for value in own.values():
        value.retain_grad()
    functional_call(network, own, (x,)).square().sum().backward()
    spread = scattered({name: v.grad for name, v in own.items()}, SHARED["conv"], network)
    for name, value in shared.items():
        expected = torch.zeros_like(value) if value.grad is None else value.grad
        assert torch.equal(spread[name], expected), name


@pytest.mark.parametrize("other", [{"conv1/operator": "separable"}, {"norm": "batch"}])
def test_other_kinds_of_a_layer_have_weights_of_their_own(other: Sample) -> None:
    one, two = (PATHS["conv"].network(two_blocks(**over)) for over in ({}, dict(other)))
    place = "conv1.norm" if "norm" in other else "conv1.conv"
    weights = [
        {v.data_ptr() for name, v in sliced(SHARED["conv"], each).items() if name.startswith(place)}
        for each in (one, two)
    ]
    assert not weights[0] & weights[1]


@pytest.mark.parametrize("name", SHAPES)
@settings(max_examples=60, deadline=None)
@given(seed=st.text())
def test_every_network_has_its_slices(name: str, seed: str) -> None:
    network = PATHS[name].network(PATHS[name].choices.draw(RandomSuggest(seed), name))
    own = sliced(SHARED[name], network)
    assert {key: value.shape for key, value in own.items()} == {
        key: value.shape for key, value in network.named_parameters()
    }


def test_the_largest_network_uses_every_weight_of_its_layers() -> None:
    """Room that no network fills would be a tensor without training."""
    largest = {"depth": 6, "width": 128, "norm": "batch", "pool": "max", "activation": "relu"}
    for index in range(1, 7):
        block = {"kernel": 5, "operator": "conv", "skip": True}
        largest |= {f"conv{index}/{label}": option for label, option in block.items()}
    network: nn.Module = PATHS["conv"].network(largest)
    shared = SHARED["conv"]
    ones = {name: torch.ones(value.shape) for name, value in network.named_parameters()}
    for name, value in scattered(ones, shared, network).items():
        if "conv.0@" not in name and "conv.1@" not in name and "GroupNorm" not in name:
            assert value.all(), name
