"""Residual nets against the contract, published sizes, and a forward pass written by hand."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.backbones import BACKBONES
from autometa.backbones.base import BackboneSpace, Option, Shape
from autometa.learners.base import Params, initial_parameters
from autometa.testing.backbones import BackboneSpaceTestCase, random_sample

IMAGE = (3, 84, 84)


class TestResNet(BackboneSpaceTestCase):
    """Every network an eighth as wide: finite differences in float64 are slow."""

    in_shape: ClassVar[Shape] = (1, 12, 12)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("resnet")()

    @pytest.fixture(params=range(8))
    def sample(self, request: pytest.FixtureRequest, space: BackboneSpace) -> dict[str, Option]:
        return random_sample(space, self.in_shape, int(request.param)) | {"multiplier": 0.125}


def convolution(channels: int, width: int, kernel: int) -> int:
    """Parameters of a convolution without a bias, and of the norm behind it."""
    return kernel * kernel * channels * width + 2 * width


def basic_blocks(widths: tuple[int, ...], blocks_a_stage: int) -> int:
    """Stem and basic blocks of He et al., table 1, without the classifier."""
    total, channels = convolution(3, widths[0], 3), widths[0]
    for width in widths:
        total += convolution(channels, width, 3) + convolution(width, width, 3)
        total += convolution(channels, width, 1) if channels != width else 0
        total += (blocks_a_stage - 1) * 2 * convolution(width, width, 3)
        channels = width
    return total


def resnet12(widths: tuple[int, ...]) -> int:
    total, channels = 0, 3
    for width in widths:
        total += convolution(channels, width, 3) + 2 * convolution(width, width, 3)
        total += convolution(channels, width, 1)
        channels = width
    return total


def parameters(**sample: Option) -> int:
    space = BACKBONES.load("resnet")()
    return int(space.build({**space.default(), **sample}, IMAGE).parameters)


def test_the_default_has_the_size_of_metaoptnets_resnet12() -> None:
    """12.4 million parameters and 3.5 GMACs at 84 × 84."""
    space = BACKBONES.load("resnet")()
    backbone = space.build(space.default(), IMAGE)
    assert backbone.parameters == resnet12((64, 160, 320, 640)) == 12_424_320
    by_hand = 0
    for channels, width, side in ((3, 64, 84), (64, 160, 42), (160, 320, 21), (320, 640, 10)):
        by_hand += side * side * width * (9 * channels + 18 * width + channels)
    assert backbone.macs == by_hand
    assert backbone.features == 640


def test_resnet18_is_torchvisions_but_for_the_stem_and_the_classifier() -> None:
    """torchvision's has 11,689,512 parameters, with 7 × 7 kernels in front and 1,000 classes."""
    expected = 11_689_512 - (49 - 9) * 3 * 64 - (512 + 1) * 1000
    assert parameters(depth=18, widths="64-128-256-512") == expected
    assert expected == basic_blocks((64, 128, 256, 512), 2)


@pytest.mark.parametrize("multiplier", [1.0, 0.25, 0.125])
def test_other_sizes_are_counted_by_hand(multiplier: float) -> None:
    for text in ("64-160-320-640", "64-128-256-512"):
        widths = tuple(int(multiplier * int(width)) for width in text.split("-"))
        given: dict[str, Option] = {"widths": text, "multiplier": multiplier}
        assert parameters(depth=12, **given) == resnet12(widths)
        assert parameters(depth=10, **given) == basic_blocks(widths, 1)
        assert parameters(depth=18, **given) == basic_blocks(widths, 2)


def normed(x: Tensor, weights: Params, conv: str, norm: str, stride: int = 1) -> Tensor:
    kernel = weights[f"{conv}.weight"]
    x = F.conv2d(x, kernel, stride=stride, padding=kernel.shape[-1] // 2)
    scale, shift = weights[f"{norm}.weight"], weights[f"{norm}.bias"]
    return F.batch_norm(x, None, None, scale, shift, training=True)


def output(sample: dict[str, Option], x: Tensor) -> tuple[Params, Tensor]:
    backbone = BACKBONES.load("resnet")().build(sample, tuple(x.shape[1:]))
    drawn = initial_parameters(backbone.module, torch.Generator().manual_seed(0))
    weights = {name: value.to(x.dtype) for name, value in drawn.items()}
    return weights, functional_call(backbone.module, weights, (x,))


def test_resnet12_is_the_published_forward_pass() -> None:
    """Lee et al.: BN after each convolution, leaky ReLU of 0.1, 2 × 2 max pooling; the mean."""
    sample = {**BACKBONES.load("resnet")().default(), "multiplier": 0.25}
    x = torch.rand(4, 3, 20, 20, dtype=torch.float64)
    weights, found = output(sample, x)
    for i in range(1, 5):
        body, short = f"block{i}.body", f"block{i}.shortcut"
        out = F.leaky_relu(normed(x, weights, f"{body}.0", f"{body}.1"), 0.1)
        out = F.leaky_relu(normed(out, weights, f"{body}.3", f"{body}.4"), 0.1)
        out = normed(out, weights, f"{body}.6", f"{body}.7")
        out = out + normed(x, weights, f"{short}.0", f"{short}.1")
        x = F.max_pool2d(F.leaky_relu(out, 0.1), 2)
    torch.testing.assert_close(found, x.mean((2, 3)))


@pytest.mark.parametrize(("depth", "blocks"), [(10, 1), (18, 2)])
def test_basic_blocks_are_the_published_forward_pass(depth: int, blocks: int) -> None:
    sample: dict[str, Option] = {
        "activation": "relu",
        "depth": depth,
        "multiplier": 0.125,
        "widths": "64-128-256-512",
    }
    x = torch.rand(4, 3, 20, 20)
    weights, found = output(sample, x)
    x = F.relu(normed(x, weights, "stem.0", "stem.1"))
    for i in range(1, 4 * blocks + 1):
        body, short = f"block{i}.body", f"block{i}.shortcut"
        stride = 2 if i > 1 and (i - 1) % blocks == 0 else 1
        out = F.relu(normed(x, weights, f"{body}.0", f"{body}.1", stride))
        out = normed(out, weights, f"{body}.3", f"{body}.4")
        if stride == 2:
            x = normed(x, weights, f"{short}.0", f"{short}.1", stride)
        x = F.relu(out + x)
    torch.testing.assert_close(found, x.mean((2, 3)))


def test_nni_freezes_a_sample_to_the_same_network() -> None:
    space = BACKBONES.load("resnet")()
    sample = {**space.default(), "multiplier": 0.125}
    by_nni = space.model_space((1, 28, 28)).freeze(dict(sample))
    assert repr(by_nni) == repr(space.network(sample, (1, 28, 28)))
