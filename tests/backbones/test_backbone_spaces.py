"""Every backbone space against the contract, and Conv4 against the published network."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from autometa.backbones import BACKBONES
from autometa.backbones.base import BackboneSpace, Shape
from autometa.backbones.conv4 import Conv4Backbone
from autometa.backbones.layers import BatchNorm, GroupNorm
from autometa.errors import ConfigError
from autometa.learners.base import initial_parameters
from autometa.testing.backbones import BackboneSpaceTestCase


class TestConv(BackboneSpaceTestCase):
    in_shape: ClassVar[Shape] = (1, 20, 20)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("conv")()


class TestConv4(BackboneSpaceTestCase):
    in_shape: ClassVar[Shape] = (3, 16, 16)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("conv4")()


class TestMLP(BackboneSpaceTestCase):
    in_shape: ClassVar[Shape] = (1,)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("mlp")()


@pytest.mark.parametrize("name", ["conv", "conv4"])
@pytest.mark.parametrize(("in_shape", "features"), [((1, 28, 28), 64), ((3, 84, 84), 1600)])
def test_default_is_vinyals_conv4(name: str, in_shape: Shape, features: int) -> None:
    """Written out by hand with torch's functions; 64 and 1,600 features as published."""
    space = BACKBONES.load(name)()
    backbone = space.build(space.default(), in_shape)
    drawn = initial_parameters(backbone.module, torch.Generator().manual_seed(0))
    weights = {name: value.double() for name, value in drawn.items()}
    x = out = torch.rand(5, *in_shape, dtype=torch.float64)
    for i in range(1, 5):
        layer = {
            k.removeprefix(f"conv{i}."): v for k, v in weights.items() if k.startswith(f"conv{i}.")
        }
        out = F.conv2d(out, layer["conv.weight"], layer["conv.bias"], padding=1)
        out = F.batch_norm(out, None, None, layer["norm.weight"], layer["norm.bias"], training=True)
        out = F.max_pool2d(F.relu(out), 2)
    expected = out.flatten(1)
    assert expected.shape == (5, features) == (5, backbone.features)
    torch.testing.assert_close(functional_call(backbone.module, weights, (x,)), expected)
    assert backbone.parameters == 9 * in_shape[0] * 64 + 3 * 9 * 64 * 64 + 4 * 64 * 3


def test_macs_are_counted_by_hand() -> None:
    space = BACKBONES.load("conv")()
    sizes = (28, 14, 7, 3)
    by_hand = sum(9 * (1 if size == 28 else 64) * 64 * size * size for size in sizes)
    assert space.build(space.default(), (1, 28, 28)).macs == by_hand


@pytest.mark.parametrize("channels", [5, 16])
@pytest.mark.parametrize("size", [(6, 4, 3), (1, 1, 1)])
def test_norms_equal_torch_in_and_out_of_transforms(channels: int, size: tuple[int, ...]) -> None:
    batch, *image = size
    x = torch.randn(batch, channels, *image)
    group = nn.GroupNorm(max(1, channels // 8), channels)
    pairs = [(GroupNorm(channels), group(x))]
    if batch > 1:
        pairs.append((BatchNorm(channels), nn.BatchNorm2d(channels, track_running_stats=False)(x)))
    for ours, expected in pairs:
        torch.testing.assert_close(ours(x), expected)
        torch.testing.assert_close(vmap(ours)(x.expand(2, *x.shape))[1], expected)


def test_batch_norm_of_a_single_number_is_its_shift() -> None:
    norm = BatchNorm(3)
    nn.init.constant_(norm.bias, 0.5)
    assert torch.equal(norm(torch.randn(1, 3, 1, 1)), torch.full((1, 3, 1, 1), 0.5))


def test_deep_net_on_a_small_image_stops_pooling() -> None:
    space = BACKBONES.load("conv")()
    sample = {**space.default(), "depth": 6}
    for i in (5, 6):
        sample |= {f"conv{i}/kernel": 3, f"conv{i}/operator": "conv", f"conv{i}/skip": True}
    assert space.build(sample, (1, 8, 8)).features == 64


def test_nni_freezes_a_sample_to_the_same_network() -> None:
    """NNI's own ``freeze`` and our frozen network have the same layers and parameters."""
    space = BACKBONES.load("conv")()
    sample = space.default()
    by_nni = space.model_space((1, 28, 28)).freeze(dict(sample))
    ours = space.network(sample, (1, 28, 28))
    assert repr(by_nni) == repr(ours)


def test_an_image_too_small_for_four_halvings_is_refused() -> None:
    space = Conv4Backbone()
    assert space.build({"width": 32}, (1, 16, 16)).features == 32
    with pytest.raises(ConfigError, match=r"data of shape \(1, 15, 16\) are too small"):
        space.build({"width": 32}, (1, 15, 16))
