"""Layers that are exact under ``torch.func`` and ``vmap``; torch only, so bundles copy this file.

Under a transform, normalisation is written with elementary operations: torch's batching rules for
the double backward of its own batch, group and layer norms give wrong meta-gradients
(pytorch/functorch issue 534). Elsewhere torch's own does the same in a third of the time.
There are no running statistics: a batch is normalised by itself, as in MAML's reference code.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5


class _Affine(nn.Module):
    """Scale and shift per channel, and the constructor's argument for ``repr``."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def extra_repr(self) -> str:
        return str(self.channels)

    def affine(self, x: Tensor) -> Tensor:
        per_channel = (-1, *[1] * (x.dim() - 2))
        return x * self.weight.reshape(per_channel) + self.bias.reshape(per_channel)


class BatchNorm(_Affine):
    """Batch normalisation (Ioffe & Szegedy, 2015) by the statistics of the batch at hand.

    Shapes: [B, C, H, W] or [B, C, L] → the same. Queries share statistics, so predictions
    are transductive.
    """

    def forward(self, x: Tensor) -> Tensor:
        if _plain() and x.numel() > self.channels:  # torch's refuses a channel of one number
            return F.batch_norm(x, None, None, self.weight, self.bias, training=True, eps=EPSILON)
        of_channel = (0, *range(2, x.dim()))
        centred = x - x.mean(of_channel, keepdim=True)
        variance = centred.square().mean(of_channel, keepdim=True)
        return self.affine(centred * torch.rsqrt(variance + EPSILON))


class GroupNorm(_Affine):
    """Group normalisation (Wu & He, 2018) with up to 8 channels a group: inductive.

    Shapes: [B, C, H, W] or [B, C, L] → the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        groups = max(1, self.channels // 8)
        if _plain():
            return F.group_norm(x, groups, self.weight, self.bias, eps=EPSILON)
        parts = x.reshape(x.shape[0], groups, -1)
        centred = parts - parts.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return self.affine((centred * torch.rsqrt(variance + EPSILON)).reshape(x.shape))


def _plain() -> bool:
    """Whether no transform of ``torch.func`` is active."""
    return not torch._C._are_functorch_transforms_active()


class ConvBlock(nn.Module):
    """Convolution, normalisation, optional shortcut, activation, pooling."""

    def __init__(
        self,
        conv: nn.Module,
        norm: nn.Module,
        activation: nn.Module,
        pool: nn.Module,
        shortcut: nn.Module | None = None,
    ) -> None:
        super().__init__()
        self.conv = conv
        self.norm = norm
        self.shortcut = shortcut
        self.activation = activation
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        out = self.norm(self.conv(x))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        return self.pool(self.activation(out))  # type: ignore[no-any-return]


class AvgPool(nn.AvgPool2d):
    """Average pooling of the same size (but for the stride), in which padding doesn't count.

    torch's own doesn't tell in its ``repr`` whether padding counts, so it couldn't be written down.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__(kernel, stride, kernel // 2, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, {self.stride}"
