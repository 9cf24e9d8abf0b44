"""The block of few-shot networks: convolution, normalisation, activation, pooling.

On a CPU the usual block, of Conv4, is one function with first and second derivatives of its own. Of
few images, what a second-order gradient costs is mostly calls: of each layer's nodes, of views and
zeros between them, of gradients that come in another layout in memory than what they belong to.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import compress
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.function import Function

from autometa.backbones.layers import (
    EPSILON,
    BatchNorm,
    batch_norm_curve,
    laid_out,
    normalised_slope,
    plain,
)

MONOTONE = (nn.ReLU, nn.LeakyReLU, nn.ELU, nn.Tanh)
aten = torch.ops.aten


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
        if _is_usual(self) and _is_differentiated(x):
            return _usual(self, x)
        out = self.norm(self.conv(x))
        if self.shortcut is not None:
            out = out + self.shortcut(x)
        if isinstance(self.pool, nn.MaxPool2d) and isinstance(self.activation, MONOTONE):
            return self.activation(self.pool(out))  # type: ignore[no-any-return]
        return self.pool(self.activation(out))  # type: ignore[no-any-return]


def _is_usual(block: ConvBlock) -> bool:
    """Whether it is a block of Conv4's kinds of layers, and nobody watches these."""
    conv, pool = block.conv, block.pool
    layers = (conv, block.norm, block.activation, pool)
    return (
        isinstance(conv, nn.Conv2d)
        and isinstance(block.norm, BatchNorm)
        and isinstance(block.activation, nn.ReLU)
        and isinstance(pool, nn.MaxPool2d)
        and block.shortcut is None
        and conv.padding_mode == "zeros"
        and not isinstance(conv.padding, str)
        and not pool.return_indices
        and not any(each._forward_hooks or each._forward_pre_hooks for each in layers)
    )


def _is_differentiated(x: Tensor) -> bool:
    """Whether plain autograd may come by, on a CPU; elsewhere the layers themselves do."""
    here = isinstance(x, Tensor) and x.device.type == "cpu"
    return here and torch.is_grad_enabled() and plain() and not torch.compiler.is_compiling()


def _usual(block: ConvBlock, x: Tensor) -> Tensor:
    conv, norm, pool = block.conv, block.norm, block.pool
    how = _How(
        (conv.stride, conv.padding, conv.dilation, conv.groups),
        (pool.kernel_size, pool.stride, pool.padding, pool.dilation, pool.ceil_mode),
    )
    of_x = (conv.weight, conv.bias, norm.weight, norm.bias)
    return _Block.apply(how, x, *of_x)[0]  # type: ignore[no-untyped-call, no-any-return]


class _How(NamedTuple):
    """What torch's operators are told of a convolution (after its bias) and of maxima."""

    conv: tuple[Any, ...]
    pool: tuple[Any, ...]

    def convolved(self, x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        return torch.conv2d(x, weight, bias, *self.conv)

    def convolution_slopes(
        self, g: Tensor, x: Tensor, weight: Tensor, wanted: Sequence[bool]
    ) -> tuple[Tensor | None, ...]:
        """Gradients in the input, the kernels and the bias; those that aren't wanted are None."""
        *geometry, groups = self.conv
        still = (False, [0, 0], groups, wanted)
        return aten.convolution_backward(  # type: ignore[no-any-return]
            g, x, weight, [weight.shape[0]], *geometry, *still
        )

    def maxima(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return aten.max_pool2d_with_indices(x, *self.pool)  # type: ignore[no-any-return]

    def maxima_slope(self, g: Tensor, x: Tensor, at: Tensor) -> Tensor:
        return aten.max_pool2d_with_indices_backward(g, x, *self.pool, at)  # type: ignore[no-any-return]


class _Block(Function):
    """y [B, O, h, w] of x [B, C, H, W], and the convolution z [B, O, H, W] that it comes from.

    z is a result so that what a second derivative has of it and what the first one has meet there,
    and go through the convolution's derivative together.
    """

    @staticmethod
    def forward(ctx: Any, how: _How, x: Tensor, *weights: Tensor) -> tuple[Tensor, Tensor]:
        kernels, bias, scale, shift = weights
        z = laid_out(how.convolved(x, kernels, bias))
        normed, mean, rstd = torch.native_batch_norm(
            z, scale, shift, None, None, True, 0.0, EPSILON
        )
        largest, at = how.maxima(normed)
        y = largest.relu_()
        ctx.how, ctx.has_bias = how, bias is not None
        ctx.save_for_backward(x, kernels, scale, z, mean, rstd, y, at)
        ctx.set_materialize_grads(False)
        return y, z

    @staticmethod
    def backward(ctx: Any, g_y: Tensor | None, g_z: Tensor | None) -> Any:
        x, kernels, scale, z, mean, rstd, y, at = ctx.saved_tensors
        if g_y is None:
            g_y = torch.zeros_like(y)
        given = (mean, rstd, y, at, g_y, g_z, x, kernels, scale, z)
        return None, *_BlockSlope.apply(ctx.how, ctx.has_bias, *given)  # type: ignore[no-untyped-call]


class _BlockSlope(Function):
    """The gradient in x, the kernels and bias, and batch norm's scale and shift."""

    @staticmethod
    def forward(ctx: Any, how: _How, has_bias: bool, *given: Any) -> tuple[Tensor | None, ...]:
        mean, rstd, y, at, g_y, g_z, x, kernels, scale, z = given
        g_normed = how.maxima_slope(aten.threshold_backward(g_y, y, 0), z, at)
        g, g_scale, g_shift = aten.native_batch_norm_backward(
            g_normed, z, scale, None, None, mean, rstd, True, EPSILON, [True, True, True]
        )
        if g_z is not None:
            g += g_z
        found = how.convolution_slopes(g, x, kernels, (ctx.needs_input_grad[8], True, has_bias))
        ctx.how = how
        ctx.save_for_backward(*given, g_normed, g, g_scale, g_shift)
        return *found, g_scale, g_shift

    @staticmethod
    def backward(ctx: Any, *along: Any) -> Any:
        """What comes along with each of the gradients, taken back to what they are of."""
        still, given = (None,) * 6, ctx.saved_tensors[:10]
        if torch.is_grad_enabled():
            return *still, *_differentiably(ctx.how, given, along)
        mean, rstd, y, at, _, g_z, x, kernels, scale, z = given
        g_normed, g, g_scale, g_shift = ctx.saved_tensors[10:]
        # Batch norm takes a bias away, so its gradient is 0 whatever the rest is.
        v_x, v_kernels, _, v_scale, v_shift = along
        v = ctx.how.convolved(x, v_kernels)
        in_x = in_kernels = None
        if v_x is not None:
            v += ctx.how.convolved(v_x, kernels)
            in_x = ctx.how.convolution_slopes(g, x, v_kernels, (True, False, False))[0]
            in_kernels = ctx.how.convolution_slopes(g, v_x, kernels, (False, True, False))[1]
        rows = [each.movedim(1, -1).flatten(0, -2) for each in (g_normed, z, v)]
        numbers = (scale, mean, rstd, g_scale, g_shift, v_scale, v_shift)
        in_rows = batch_norm_curve(*rows, numbers=numbers, small=True)
        in_normed, in_z = (each.view(z.movedim(1, -1).shape).movedim(-1, 1) for each in in_rows[:2])
        in_largest = in_normed.flatten(2).gather(2, at.flatten(2)).view_as(y)
        in_y = aten.threshold_backward(in_largest, y, 0)
        of_z = None if g_z is None else v
        return *still, in_y, of_z, in_x, in_kernels, in_rows[2].flatten(), in_z


def _differentiably(
    how: _How, given: Sequence[Tensor], along: Sequence[Tensor | None]
) -> tuple[Tensor | None, ...]:
    """The same by operators that have all derivatives, for a third one."""
    mean, rstd, y, at, *point = given
    # Views, since z comes from x: what goes that way isn't this function's.
    views = [each if each is None else each.view_as(each) for each in point]
    g_y, g_z, x, kernels, scale, z = views
    g_normed = how.maxima_slope(g_y * (y > 0), z, at)
    g, g_scale, g_shift = normalised_slope(g_normed, z, scale, mean, rstd)
    g = g if g_z is None else g + g_z
    slopes = how.convolution_slopes(g, x, kernels, (x.requires_grad, True, along[2] is not None))
    told = [
        (s, v) for s, v in zip((*slopes, g_scale, g_shift), along, strict=True) if s is not None
    ]
    wanted = [each is not None and each.requires_grad for each in views]
    found = torch.autograd.grad(
        [slope for slope, _ in told],
        list(compress(views, wanted)),
        [v for _, v in told],
        create_graph=True,
        materialize_grads=True,
    )
    rest = iter(found)
    return tuple(next(rest) if each else None for each in wanted)
