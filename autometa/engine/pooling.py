"""Maxima of images that differ from task to task, whichever way these lie in memory.

Torch's second derivative of pooling asks for a layout that can't be told inside of ``vmap``. Here
all derivatives go by torch's own operators, on batches that the mapped dimension is folded into.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor


class Pooling:
    """Arguments of ``F.max_pool2d``; as one object, ``vmap`` leaves them alone."""

    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> None:
        sizes = (kernel_size, stride or kernel_size, padding, dilation)
        pairs = [[each, each] if isinstance(each, int) else list(each) for each in sizes]
        self.arguments = (*pairs, ceil_mode)


def max_pooled(x: Tensor, *arguments: Any, **options: Any) -> Tensor:
    """``F.max_pool2d`` of [B, C, H, W]."""
    found: Tensor = _Maxima.apply(x, Pooling(*arguments, **options))[0]  # type: ignore[no-untyped-call]
    return found


class _Maxima(torch.autograd.Function):
    """[B, C, H, W] → maxima, and their places in H·W."""

    @staticmethod
    def forward(x: Tensor, pooling: Pooling) -> tuple[Tensor, Tensor]:
        found: tuple[Tensor, Tensor] = torch.ops.aten.max_pool2d_with_indices(x, *pooling.arguments)
        return found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(output[1])
        ctx.save_for_backward(output[1], inputs[0])
        ctx.pooling = inputs[1]

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        return _Put.apply(grads[0], *ctx.saved_tensors, ctx.pooling), None  # type: ignore[no-untyped-call]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, pooling: Pooling) -> Any:
        (x,) = _folded(info.batch_size, in_dims, x)
        found = _Maxima.apply(x, pooling)  # type: ignore[no-untyped-call]
        return tuple(each.unflatten(0, (info.batch_size, -1)) for each in found), (0, 0)


class _Between(torch.autograd.Function):
    """What :class:`_Put` and :class:`_Take`, each the derivative of the other, have in common."""

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[1:3])
        ctx.pooling = inputs[3]

    @classmethod
    def vmap(cls, info: Any, in_dims: tuple[int | None, ...], *given: Any) -> Any:
        folded = _folded(info.batch_size, in_dims, *given[:3])
        found = cls.apply(*folded, given[3])  # type: ignore[no-untyped-call]
        return found.unflatten(0, (info.batch_size, -1)), 0


class _Put(_Between):
    """Numbers [B, C, h, w] to their places in an image that is laid out as the one pooled."""

    @staticmethod
    def forward(numbers: Tensor, places: Tensor, x: Tensor, pooling: Pooling) -> Tensor:
        found: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            numbers, x, *pooling.arguments, places
        )
        return found

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        found = _Take.apply(grads[0], *ctx.saved_tensors, ctx.pooling)  # type: ignore[no-untyped-call]
        return found, None, None, None


class _Take(_Between):
    """Numbers of [B, C, H, W] from the places: [B, C, h, w]."""

    @staticmethod
    def forward(numbers: Tensor, places: Tensor, x: Tensor, pooling: Pooling) -> Tensor:
        return numbers.flatten(2).gather(2, places.flatten(2)).reshape(places.shape)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        found = _Put.apply(grads[0], *ctx.saved_tensors, ctx.pooling)  # type: ignore[no-untyped-call]
        return found, None, None, None


def _folded(size: int, in_dims: tuple[int | None, ...], *given: Tensor) -> list[Tensor]:
    """The mapped dimension as more of the batch; what isn't mapped is the same for all."""
    return [
        (each.expand(size, *each.shape) if dim is None else each.movedim(dim, 0)).flatten(0, 1)
        for each, dim in zip(given, in_dims, strict=False)
    ]
