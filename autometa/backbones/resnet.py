"""Few-shot residual nets: ResNet-12 in two widths, ResNet-10 and ResNet-18, and narrower ones.

The default is the ResNet-12 of Tian et al. (ECCV 2020, arXiv:2003.11539), which is that of Lee et
al. (CVPR 2019, arXiv:1904.03758) with the mean over places on top: four blocks of three 3×3
convolutions, 64-160-320-640 wide. 64-128-256-512 are the widths of Oreshkin et al. (NeurIPS 2018,
arXiv:1805.10123). ResNet-10 and ResNet-18 have one and two basic blocks a stage (He et al., CVPR
2016), behind a 3×3 convolution in place of the 7×7 one for large images.

DropBlock (Ghiasi et al., NeurIPS 2018), which the published nets are trained with, is left out. It
is randomness of training alone; a learner calls its backbone as one pure function for training and
testing alike, which knows neither a generator to draw masks from nor whether to draw them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import ClassVar

from torch import Tensor, nn

from autometa.backbones.base import Option, Shape
from autometa.backbones.layers import BatchNorm
from autometa.backbones.nni_space import LayerChoice, NNISpace, RebuiltSpace, choice, frozen

WIDTHS = ("64-160-320-640", "64-128-256-512")


class ResidualBlock(nn.Module):
    """Convolutions and a shortcut around them, summed, then activation and pooling."""

    def __init__(
        self, body: nn.Module, shortcut: nn.Module, activation: nn.Module, pool: nn.Module
    ) -> None:
        super().__init__()
        self.body = body
        self.shortcut = shortcut
        self.activation = activation
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(self.activation(self.body(x) + self.shortcut(x)))  # type: ignore[no-any-return]


class ResNetSpace(RebuiltSpace):
    """``block1`` … ``blockN``, behind a ``stem`` in ResNet-10 and ResNet-18, and the mean."""

    def __init__(self, in_channels: int, image_size: int) -> None:
        super().__init__()
        depth = self.add_mutable(choice("depth", [12, 10, 18]))
        widths = self.add_mutable(choice("widths", list(WIDTHS)))
        multiplier = self.add_mutable(choice("multiplier", [1.0, 0.5, 0.25, 0.125]))
        scale = frozen(multiplier, searching=1.0)
        stages = [int(scale * int(w)) for w in frozen(widths, searching=WIDTHS[0]).split("-")]
        blocks = _BLOCKS[frozen(depth, searching=12)](in_channels, stages, image_size)
        self.names = list(blocks)
        for name, block in blocks.items():
            self.add_module(name, block)

    def forward(self, x: Tensor) -> Tensor:
        for name in self.names:
            x = getattr(self, name)(x)
        return x.mean((2, 3))


def _resnet12(channels: int, stages: list[int], image_size: int) -> dict[str, nn.Module]:
    """A block a stage; each halves the image while it can."""
    blocks: dict[str, nn.Module] = {}
    for index, width in enumerate(stages, start=1):
        body = _convolutions(channels, width, count=3)
        pool = nn.MaxPool2d(2) if image_size >= 2 else nn.Identity()
        blocks[f"block{index}"] = ResidualBlock(
            body, _projection(channels, width), _activation(), pool
        )
        channels, image_size = width, max(image_size // 2, 1)
    return blocks


def _basic(
    blocks_a_stage: int, channels: int, stages: list[int], image_size: int
) -> dict[str, nn.Module]:
    """A stem, and basic blocks; the first of each stage but the first halves the image."""
    width = stages[0]
    blocks: dict[str, nn.Module] = {
        "stem": nn.Sequential(_conv(channels, width, 3), BatchNorm(width), _activation())
    }
    channels = width
    for index in range(4 * blocks_a_stage):
        width, first = stages[index // blocks_a_stage], index % blocks_a_stage == 0
        stride = 2 if first and index else 1
        same = stride == 1 and channels == width
        shortcut = nn.Identity() if same else _projection(channels, width, stride)
        body = _convolutions(channels, width, count=2, stride=stride)
        blocks[f"block{index + 1}"] = ResidualBlock(body, shortcut, _activation(), nn.Identity())
        channels = width
    return blocks


_BLOCKS: dict[int, Callable[[int, list[int], int], dict[str, nn.Module]]] = {
    10: partial(_basic, 1),
    12: _resnet12,
    18: partial(_basic, 2),
}
"""Depth → the network's parts by name, of input channels, widths and the image's shortest side."""


def _convolutions(channels: int, width: int, *, count: int, stride: int = 1) -> nn.Module:
    """3×3 convolutions with norms, the first with the stride, and activations in between."""
    layers: list[nn.Module] = []
    for index in range(count):
        if index:
            layers.append(_activation())
        layers.append(_conv(width if index else channels, width, 3, 1 if index else stride))
        layers.append(BatchNorm(width))
    return nn.Sequential(*layers)


def _projection(channels: int, width: int, stride: int = 1) -> nn.Module:
    return nn.Sequential(_conv(channels, width, 1, stride), BatchNorm(width))


def _conv(channels: int, width: int, kernel: int, stride: int = 1) -> nn.Module:
    return nn.Conv2d(channels, width, kernel, stride, kernel // 2, bias=False)


def _activation() -> nn.Module:
    activations = {"leaky_relu": nn.LeakyReLU(0.1), "relu": nn.ReLU()}
    return LayerChoice(activations, label="activation")  # type: ignore[no-any-return]


class ResNetBackbones(NNISpace):
    """Images [C, H, W]."""

    summary: ClassVar[str] = "residual nets (ResNet-10, 12 and 18, whole to an eighth as wide)"
    input_rank: ClassVar[int] = 3

    def model_space(self, in_shape: Shape) -> ResNetSpace:
        return ResNetSpace(in_shape[0], min(in_shape[1:]))

    def default(self) -> dict[str, Option]:
        return {
            "activation": "leaky_relu",
            "depth": 12,
            "multiplier": 1.0,
            "widths": "64-160-320-640",
        }
