"""Conv4-64 (Vinyals et al., "Matching networks", NeurIPS 2016) in plain torch, without NNI.

The same network is a member of the ``conv`` space; this one is for where NNI isn't installed.
"""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from typing import ClassVar

from torch import nn

from autometa.backbones.base import BackboneSpace, Option, Sample, Shape
from autometa.backbones.block import ConvBlock
from autometa.backbones.layers import BatchNorm
from autometa.errors import ConfigError


def conv4(in_channels: int, width: int = 64) -> nn.Module:
    """Four blocks of 3×3 convolution, batch norm, ReLU and 2×2 max pooling, flattened."""
    channels = [in_channels, *[width] * 4]
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for i, (before, after) in enumerate(pairwise(channels), start=1):
        conv = nn.Conv2d(before, after, 3, padding=1)
        blocks[f"conv{i}"] = ConvBlock(conv, BatchNorm(after), nn.ReLU(), nn.MaxPool2d(2))
    blocks["flatten"] = nn.Flatten()
    return nn.Sequential(blocks)


class Conv4Backbone(BackboneSpace):
    """One network, whose only choice is its width."""

    summary: ClassVar[str] = "Vinyals's four-block network in plain torch"
    input_rank: ClassVar[int] = 3

    def choices(self, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
        return {"width": (64, 32)}

    def default(self) -> dict[str, Option]:
        return {"width": 64}

    def check(self, sample: Sample, in_shape: Shape) -> None:
        """As of every space; and four halvings need 16 pixels."""
        super().check(sample, in_shape)
        if min(in_shape[1:]) < 16:
            raise ConfigError(
                f"backbone 'conv4' halves an image four times, so data of shape {in_shape} are too "
                "small: give 16 pixels at least, or choose 'conv', which halves it while it can"
            )

    def network(self, sample: Sample, in_shape: Shape) -> nn.Module:
        return conv4(in_shape[0], int(sample["width"]))
