"""Few-shot convolutional nets: depth, width, kernel, operator, norm, activation, pooling, skips.

The family around Vinyals's Conv4 (Vinyals et al., NeurIPS 2016), which is its default member.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from autometa.backbones.base import Option, Shape
from autometa.backbones.block import ConvBlock
from autometa.backbones.layers import BatchNorm, GroupNorm
from autometa.backbones.nni_space import (
    LayerChoice,
    MutableConv1d,
    MutableConv2d,
    NNISpace,
    ParametrizedModule,
    RebuiltSpace,
    choice,
    frozen,
    label_scope,
)

MAX_DEPTH = 6


class MutableBatchNorm(ParametrizedModule, BatchNorm, wraps=BatchNorm):  # type: ignore[call-arg, misc]
    """Batch norm whose width is a choice."""


class MutableGroupNorm(ParametrizedModule, GroupNorm, wraps=GroupNorm):  # type: ignore[call-arg, misc]
    """Group norm whose width is a choice."""


@dataclass(frozen=True)
class Layers:
    """Layers for inputs of some number of dimensions, and the kernels to choose from."""

    conv: type[nn.Module]
    max_pool: type[nn.Module]
    avg_pool: type[nn.Module]
    kernels: tuple[int, ...]


LAYERS = {
    1: Layers(MutableConv1d, nn.MaxPool1d, nn.AvgPool1d, (3, 5, 7, 9)),
    2: Layers(MutableConv2d, nn.MaxPool2d, nn.AvgPool2d, (3, 5)),
}


class ConvSpace(RebuiltSpace):
    """Blocks ``conv1`` … ``convN`` of :class:`ConvBlock`, each halving the input while it can.

    Args:
        size: The shortest side of an input.
        dimensions: 2 for images, 1 for sequences.
    """

    def __init__(self, in_channels: int, size: int, dimensions: int) -> None:
        super().__init__()
        self.layers = LAYERS[dimensions]
        depth = self.add_mutable(choice("depth", [4, 2, 3, 5, 6]))
        width = choice("width", [64, 16, 32, 48, 96, 128])
        self.depth = frozen(depth, searching=MAX_DEPTH)
        channels: Any = in_channels
        for index in range(1, self.depth + 1):
            with label_scope(f"conv{index}"):
                operator, shortcut = self._operator(channels, width)
            pool = self._pool() if size >= 2 else nn.Identity()
            block = ConvBlock(operator, _norm(width), _activation(), pool, shortcut)
            self.add_module(f"conv{index}", block)
            channels, size = width, max(size // 2, 1)

    def _operator(self, channels: Any, width: Any) -> tuple[nn.Module, nn.Module | None]:
        conv, kernel = self.layers.conv, choice("kernel", list(self.layers.kernels))
        skip = self.add_mutable(choice("skip", [False, True]))
        same = conv(channels, channels, kernel, padding=kernel // 2, groups=channels)
        operators = {
            "conv": conv(channels, width, kernel, padding=kernel // 2),
            "separable": nn.Sequential(same, conv(channels, width, 1)),
        }
        shortcut = conv(channels, width, 1) if frozen(skip, searching=False) else None
        return LayerChoice(operators, label="operator"), shortcut

    def _pool(self) -> nn.Module:
        pools = {"max": self.layers.max_pool(2), "avg": self.layers.avg_pool(2)}
        return LayerChoice(pools, label="pool")  # type: ignore[no-any-return]

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.depth + 1):
            x = getattr(self, f"conv{index}")(x)
        return x.flatten(1)


def _norm(width: Any) -> nn.Module:
    norms = {"batch": MutableBatchNorm(width), "group": MutableGroupNorm(width)}
    return LayerChoice(norms, label="norm")  # type: ignore[no-any-return]


def _activation() -> nn.Module:
    activations = {"relu": nn.ReLU(), "silu": nn.SiLU(), "gelu": nn.GELU()}
    return LayerChoice(activations, label="activation")  # type: ignore[no-any-return]


class ConvBackbones(NNISpace):
    """Images [C, H, W]; every label of a block is free of the others'."""

    summary: ClassVar[str] = "convolutional nets around Conv4 (depth 2–6, width 16–128)"
    input_rank: ClassVar[int] = 3

    def model_space(self, in_shape: Shape) -> ConvSpace:
        return ConvSpace(in_shape[0], min(in_shape[1:]), len(in_shape) - 1)

    def default(self) -> dict[str, Option]:
        sample: dict[str, Option] = {
            "activation": "relu",
            "depth": 4,
            "norm": "batch",
            "pool": "max",
            "width": 64,
        }
        for index in range(1, 5):
            sample |= {
                f"conv{index}/kernel": 3,
                f"conv{index}/operator": "conv",
                f"conv{index}/skip": False,
            }
        return sample
