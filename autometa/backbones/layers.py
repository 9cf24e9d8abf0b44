"""Layers that are exact under ``torch.func`` and ``vmap``; torch only, so bundles copy this file.

Torch's batching rules for the double backward of its own batch, group and layer norms give wrong
meta-gradients (pytorch/functorch issue 534). So batch norm has derivatives of its own, which pass
over the numbers a third as often as those of elementary operations would, and group norm is written
with these under a transform. Elsewhere torch's own operators take the values and first derivatives,
and on a CPU they, and pooling after them, are several times faster with the channels last.
There are no running statistics: a batch is normalised by itself, as in MAML's reference code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

EPSILON = 1e-5
A = TypeVar("A", Tensor, Any)
"""An array of NumPy or torch."""


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
        x = laid_out(x) if plain() else x
        parts = (each[None] for each in (x, self.weight, self.bias))
        found: Tensor = _Normalised.apply(*parts)[0]  # type: ignore[no-untyped-call]
        return found.squeeze(0)  # an index would have the gradient copied, and laid out anew


class GroupNorm(_Affine):
    """Group normalisation (Wu & He, 2018) with up to 8 channels a group: inductive.

    Shapes: [B, C, H, W] or [B, C, L] → the same.
    """

    def forward(self, x: Tensor) -> Tensor:
        groups = max(1, self.channels // 8)
        if plain():
            return F.group_norm(x, groups, self.weight, self.bias, eps=EPSILON)
        parts = x.reshape(x.shape[0], groups, -1)
        centred = parts - parts.mean(-1, keepdim=True)
        variance = centred.square().mean(-1, keepdim=True)
        return self.affine((centred * torch.rsqrt(variance + EPSILON)).reshape(x.shape))


def plain() -> bool:
    """Whether no transform of ``torch.func`` is active."""
    return not torch._C._are_functorch_transforms_active()


def laid_out(x: Tensor) -> Tensor:
    """The same numbers, images on a CPU with their channels last in memory."""
    if x.dim() == 4 and x.device.type == "cpu":
        return x.contiguous(memory_format=torch.channels_last)
    return x


class _Normalised(torch.autograd.Function):
    """Batch normalisation of [G, B, C, …] in G groups, and mean and 1 / √(variance + ε) [G, C]."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if _single(x):
            of_one = (x[0], weight[0], bias[0])
            found = torch.native_batch_norm(*of_one, None, None, True, 0.0, EPSILON)
            return tuple(each[None] for each in found)  # type: ignore[return-value]
        variance, mean = torch.var_mean(x, _within(x), correction=0)
        rstd = (variance + EPSILON).rsqrt()
        centred = x - _along(mean, x)
        return torch.addcmul(_along(bias, x), centred, _along(weight * rstd, x)), mean, rstd

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        (x, weight, _), (_, mean, rstd) = inputs, output
        ctx.mark_non_differentiable(mean, rstd)
        ctx.save_for_backward(x, weight, mean, rstd)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _NormalisedSlope.apply(grads[0], *ctx.saved_tensors)  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> Any:
        return _by_groups(_Normalised, info, in_dims, given)


class _NormalisedSlope(torch.autograd.Function):
    """The gradient of batch normalisation (Ioffe & Szegedy, 2015, section 3).

    With x̂ = (x − μ) r and means over what a channel's statistics are of, it is
    g_x = w r (g − mean(g) − x̂ mean(g x̂)), g_w = Σ g x̂ and g_b = Σ g.
    """

    @staticmethod
    def forward(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        g, x, weight, mean, rstd = given
        if _single(x):
            of_one = (each[0] for each in (g, x, weight))
            found = torch.ops.aten.native_batch_norm_backward(
                *of_one, None, None, mean[0], rstd[0], True, EPSILON, [True, True, True]
            )
            return tuple(each[None] for each in found)
        g_b = g.sum(_within(x))
        g_w = ((g * x).sum(_within(x)) - mean * g_b) * rstd
        scale, n = weight * rstd, x[0, :, 0].numel()
        of_x = -scale * rstd * g_w / n
        g_x = torch.addcmul(_along(-scale * g_b / n - of_x * mean, x), g, _along(scale, x))
        return g_x.addcmul_(x, _along(of_x, x)), g_w, g_b

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs, *output[1:])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        found = _NormalisedCurve.apply(*ctx.saved_tensors, *grads)  # type: ignore[no-untyped-call]
        return *found, None, None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> Any:
        return _by_groups(_NormalisedSlope, info, in_dims, given)


class _NormalisedCurve(torch.autograd.Function):
    """The derivative of ⟨v, g_x⟩ + ⟨u, g_w⟩ + ⟨t, g_b⟩ in g, x and w: the chain rule through x̂, r.

    Torch's goes through a dozen more tensors of the input's size, and takes twice as long.
    """

    @staticmethod
    def forward(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return _curve(*given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, ...]) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        known = (*ctx.saved_tensors[:3], *ctx.saved_tensors[7:])
        pull_back = torch.func.vjp(_curve_of, *known)[1]
        of_g, of_x, of_weight, *of_along = pull_back(grads)
        return of_g, of_x, of_weight, None, None, None, None, *of_along

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], *given: Tensor) -> Any:
        return _by_groups(_NormalisedCurve, info, in_dims, given)


def _curve_of(g: Tensor, x: Tensor, w: Tensor, *along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """:func:`_curve` without what is known already."""
    mean = x.mean(_within(x))
    rstd = ((x - _along(mean, x)).square().mean(_within(x)) + EPSILON).rsqrt()
    g_w = (g * (x - _along(mean, x))).sum(_within(x)) * rstd
    return _curve(g, x, w, mean, rstd, g_w, g.sum(_within(x)), *along)


def _curve(*given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    g, x, w, mean, rstd, g_w, g_b, v, u, t = given
    shape = x.movedim(2, -1).shape
    numbers = tuple(each.unsqueeze(1) for each in (w, mean, rstd, g_w, g_b, u, t))
    found = batch_norm_curve(_rows(g), _rows(x), _rows(v), numbers=numbers)
    in_g, in_x = (each.view(shape).movedim(-1, 2) for each in found[:2])
    return in_g, in_x, found[2].squeeze(1)


def normalised_slope(
    g: Tensor, x: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The gradient g of batch normalisation's result, taken back to x, weight and bias."""
    given = (each[None] for each in (g, x, weight, mean, rstd))
    g_x, g_w, g_b = _NormalisedSlope.apply(*given)  # type: ignore[no-untyped-call]
    return g_x.squeeze(0), g_w.squeeze(0), g_b.squeeze(0)


def batch_norm_curve(
    g: Tensor, x: Tensor, v: Tensor, *, numbers: Sequence[Tensor], small: bool = False
) -> tuple[Tensor, Tensor, Tensor]:
    """The derivative of ⟨v, g_x⟩ + ⟨u, g_w⟩ + ⟨t, g_b⟩ in g, x and w.

    Args:
        g, x, v: As rows [..., n, C].
        numbers: w, mean, 1 / √(variance + ε), g_w, g_b, u and t, each [C] or [..., 1, C].
        small: Whether to reckon with the numbers of channels in NumPy, on a CPU: it does so in less
            time than torch takes for a call, and other threads needn't wait for one another.
    """
    means = [(v * each).mean(-2, keepdim=True) for each in (g, x)]
    known = [*numbers, v.mean(-2, keepdim=True), *means]
    if small:
        arrays = _curve_factors(x.shape[-2], *(each.numpy() for each in known))
        factors = [torch.from_numpy(each) for each in arrays]
    else:
        factors = list(_curve_factors(x.shape[-2], *known))
    of_v, of_x, start, in_x_of_v, in_x_of_x, in_x_start, in_w = factors
    in_g = torch.addcmul(start, v, of_v).addcmul_(x, of_x)
    in_x = torch.addcmul(in_x_start, v, in_x_of_v).addcmul_(g, of_x).addcmul_(x, in_x_of_x)
    return in_g, in_x, in_w


def _curve_factors(
    n: int, w: A, mean: A, r: A, g_w: A, g_b: A, u: A, t: A, of_v: A, of_v_g: A, of_v_x: A
) -> tuple[A, ...]:
    """What to take of v and x, and add, for g; of v and x (and as much of g as of x there) for x.

    The last is the derivative in w.
    """
    of_g, of_g_x = g_b / n, g_w / n
    of_v_x = (of_v_x - mean * of_v) * r
    scale = w * r
    along = u - scale * of_v_x
    cross = of_v_g - of_v * of_g - of_v_x * of_g_x
    of_x = r * along
    in_x_of_v = -scale * r * of_g_x
    in_x_of_x = -r * r * ((along - scale * of_v_x) * of_g_x + scale * cross)
    start = t - scale * of_v - mean * of_x
    in_x_start = -(of_x * of_g + in_x_of_v * of_v + mean * in_x_of_x)
    return scale, of_x, start, in_x_of_v, in_x_of_x, in_x_start, n * r * cross


def _by_groups(
    function: Any, info: Any, in_dims: tuple[int | None, ...], given: tuple[Tensor, ...]
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """A function of groups under ``vmap``: as many groups more."""
    size = info.batch_size
    folded = [
        each.expand(size, *each.shape) if dim is None else each.movedim(dim, 0)
        for each, dim in zip(given, in_dims, strict=True)
    ]
    found = function.apply(*(each.flatten(0, 1) for each in folded))
    return tuple(each.unflatten(0, (size, -1)) for each in found), (0,) * len(found)


def _single(x: Tensor) -> bool:
    """Whether torch's own operators can do it; they refuse a channel of one number."""
    return len(x) == 1 and x[0, :, 0].numel() > 1


def _within(x: Tensor) -> list[int]:
    """The dimensions that statistics of [G, B, C, …] go over."""
    return [1, *range(3, x.dim())]


def _along(numbers: Tensor, x: Tensor) -> Tensor:
    """[G, C] → [G, 1, C, 1, …]."""
    return numbers.view(len(numbers), 1, -1, *[1] * (x.dim() - 3))


def _rows(x: Tensor) -> Tensor:
    """[G, B, C, …] → [G, n, C], a view where the channels are last in memory."""
    return x.movedim(2, -1).flatten(1, -2)


class AvgPool(nn.AvgPool2d):
    """Average pooling of the same size (but for the stride), in which padding doesn't count.

    torch's own doesn't tell in its ``repr`` whether padding counts, so it couldn't be written down.
    """

    def __init__(self, kernel: int, stride: int) -> None:
        super().__init__(kernel, stride, kernel // 2, count_include_pad=False)

    def extra_repr(self) -> str:
        return f"{self.kernel_size}, {self.stride}"
