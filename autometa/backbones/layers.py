"""Layers that are exact under ``torch.func`` and ``vmap``; torch only, so bundles copy this file.

Under a transform, normalisation is written with elementary operations: torch's batching rules for
the double backward of its own batch, group and layer norms give wrong meta-gradients
(pytorch/functorch issue 534). Elsewhere torch's own operators do the same in a third of the time,
and on a CPU they, and pooling after them, are several times faster with the channels last.
There are no running statistics: a batch is normalised by itself, as in MAML's reference code.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
MONOTONE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh)


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
            found: Tensor = _Normalised.apply(  # type: ignore[no-untyped-call]
                _laid_out(x), self.weight, self.bias
            )
            return found
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


def _laid_out(x: Tensor) -> Tensor:
    """The same numbers, images on a CPU with their channels last in memory."""
    if x.dim() == 4 and x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x


class _Normalised(torch.autograd.Function):
    """``F.batch_norm`` by the batch's statistics; what differs is its second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        y, mean, rstd = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, EPSILON)
        ctx.save_for_backward(x, weight, mean, rstd)
        return y

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _NormalisedSlope.apply(*grads, *ctx.saved_tensors)  # type: ignore[no-untyped-call]


class _NormalisedSlope(torch.autograd.Function):
    """The gradient of batch normalisation (Ioffe & Szegedy, 2015, section 3), and its own.

    With x̂ = (x − μ) r and means over what a channel's statistics are of, it is
    g_x = w r (g − mean(g) − x̂ mean(g x̂)), g_w = Σ g x̂ and g_b = Σ g. The derivative of
    ⟨v, g_x⟩ + ⟨u, g_w⟩ + ⟨t, g_b⟩ in g, x and w follows by the chain rule through x̂ and r. Torch's
    goes through a dozen more tensors of the input's size, and takes twice as long.
    """

    @staticmethod
    def forward(ctx: Any, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        g, x, weight, mean, rstd = given
        slopes = torch.ops.aten.native_batch_norm_backward(
            g, x, weight, None, None, mean, rstd, True, EPSILON, [True, True, True]
        )
        ctx.save_for_backward(*given, *slopes[1:])
        return slopes  # type: ignore[no-any-return]

    @staticmethod
    def backward(ctx: Any, v: Tensor, u: Tensor, t: Tensor) -> Any:
        g, x, w, mean, r, g_w, g_b = ctx.saved_tensors
        if torch.is_grad_enabled():  # then these may not be constants
            mean, r, g_w, g_b = _statistics(g, x)
        (v, g, x), shape = (_rows(each) for each in (v, g, x)), x.movedim(1, -1).shape
        n = len(x)
        centred = x - mean
        of_g, of_g_x = g_b / n, g_w / n
        of_v, of_v_g = v.mean(0), (v * g).mean(0)
        of_v_x = (v * centred).mean(0) * r
        cross = of_v_g - of_v * of_g - of_v_x * of_g_x
        along = u - w * r * of_v_x
        # Each is a sum of v, g and x̂ with one factor a channel.
        of_slope = u * of_g - w * r * (of_g_x * of_v + of_v_x * of_g)
        of_slope_x = (u - 2 * w * r * of_v_x) * of_g_x
        in_g = torch.addcmul(t - w * r * of_v, v, w * r).addcmul_(centred, r * along)
        in_x = torch.addcmul(-r * of_slope, v, -w * r * r * of_g_x).addcmul_(g, r * along)
        in_x.addcmul_(centred, -r * r * (of_slope_x + w * r * cross))
        in_w = n * r * cross
        back = (each.view(shape).movedim(-1, 1) for each in (in_g, in_x))
        return *back, in_w, None, None


def _statistics(g: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Mean and 1 / √(variance + ε) of the channels, and the gradients g_w and g_b, [C] each."""
    g, x = _rows(g), _rows(x)
    mean = x.mean(0)
    rstd = ((x - mean).square().mean(0) + EPSILON).rsqrt()
    return mean, rstd, (g * (x - mean) * rstd).sum(0), g.sum(0)


def _rows(x: Tensor) -> Tensor:
    """[B, C, …] → [n, C], a view where the channels are last in memory."""
    return x.movedim(1, -1).reshape(-1, x.shape[1])


class ConvBlock(nn.Module):
    """Convolution, normalisation, optional shortcut, activation, pooling.

    Maxima are taken before an activation that never falls: the same, on fewer numbers.
    """

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
        if isinstance(self.pool, nn.MaxPool2d) and isinstance(self.activation, MONOTONE):
            return self.activation(self.pool(out))  # type: ignore[no-any-return]
        return self.pool(self.activation(out))  # type: ignore[no-any-return]


class AvgPool(nn.AvgPool2d):
    """Average pooling of the same size (but for the stride), in which padding doesn't count.

    torch's own doesn't tell in its ``repr`` whether padding counts, so it couldn't be written down.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__(kernel, stride, kernel // 2, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, {self.stride}"
