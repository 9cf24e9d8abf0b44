"""Convolutions whose kernels differ from task to task, as batched matrix products.

``vmap`` makes grouped convolutions of them, which libraries compute an order of magnitude slower
than products of the same size. Here a convolution is the product of patches and kernels (K.
Chellapilla, S. Puri, P. Simard: "High performance convolutional neural networks for document
processing", IWFHR 2006), channels last; its derivatives are convolutions again, so all orders are
served by two products.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

from autometa.engine.pooling import max_pooled


class BatchedConvolutions(TorchFunctionMode):
    """Within it, image convolutions of stride 1 that keep an image's size are matrix products.

    Pooling by maxima takes their results as they lie in memory.
    """

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in (torch.conv2d, F.conv2d) and _able(*args, **kwargs):
            return _convolved(*args, **kwargs)
        if func is F.max_pool2d and args[0].dim() == 4 and not kwargs.get("return_indices"):
            return max_pooled(*args, **kwargs)
        return func(*args, **kwargs)


def _able(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> bool:
    k = weight.shape[-1]
    same = k % 2 == 1 and weight.shape[-2] == k and padding in (k // 2, (k // 2, k // 2))
    plain = stride in (1, (1, 1)) and dilation in (1, (1, 1)) and groups == 1
    return same and plain and x.dim() == 4


def _convolved(x: Tensor, weight: Tensor, bias: Tensor | None = None, *_: Any, **__: Any) -> Tensor:
    y = _apply(_Convolution, x[None], weight[None])[0]
    return y if bias is None else y + bias[:, None, None]


class _Convolution(torch.autograd.Function):
    """[G, B, C, H, W] and kernels [G, O, C, k, k] → [G, B, O, H, W]; a G of 1 serves any."""

    @staticmethod
    def forward(x: Tensor, weight: Tensor) -> Tensor:
        size, channels = weight.shape[-1], weight.shape[1]
        kernels = weight.permute(0, 3, 4, 2, 1).reshape(len(weight), -1, channels)
        rows = _patches(x, size) @ kernels
        _, batch, _, *sides = x.shape
        return rows.reshape(len(rows), batch, *sides, -1).movedim(-1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (g,), (x, weight) = grads, ctx.saved_tensors
        back = _apply(_Convolution, g, _turned(weight)) if ctx.needs_input_grad[0] else None
        slope = None
        if ctx.needs_input_grad[1]:
            slope = _apply(_KernelSlope, x, g, weight.shape[-1])
        return _summed(back, x), _summed(slope, weight)

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, weight: Tensor) -> Any:
        of_x, of_weight = in_dims
        if of_weight is None:  # then more of the same batch
            folded = x.movedim(of_x, 1)  # type: ignore[arg-type]
            y = _apply(_Convolution, folded.flatten(1, 2), weight)
            return y.reshape(len(y), *folded.shape[1:3], *y.shape[2:]), 1
        x, weight = _grouped(info.batch_size, (x, weight), in_dims)
        return _of_each(info.batch_size, _apply(_Convolution, x, weight)), 0


class _KernelSlope(torch.autograd.Function):
    """[G, B, C, H, W] and slopes [G, B, O, H, W] → those of the kernels, [G, O, C, k, k]."""

    @staticmethod
    def forward(x: Tensor, g: Tensor, size: int) -> Tensor:
        rows = g.movedim(2, -1).flatten(1, 3)
        product = _patches(x, size).transpose(1, 2) @ rows
        found = product.reshape(len(product), size, size, -1, rows.shape[-1])
        return found.permute(0, 4, 3, 1, 2)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, Tensor, int], output: Tensor) -> None:
        ctx.save_for_backward(*inputs[:2])

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> Any:
        (v,), (x, g) = grads, ctx.saved_tensors
        of_x = _apply(_Convolution, g, _turned(v)) if ctx.needs_input_grad[0] else None
        of_g = _apply(_Convolution, x, v) if ctx.needs_input_grad[1] else None
        return _summed(of_x, x), _summed(of_g, g), None

    @staticmethod
    def vmap(info: Any, in_dims: tuple[int | None, ...], x: Tensor, g: Tensor, size: int) -> Any:
        x, g = _grouped(info.batch_size, (x, g), in_dims[:2])
        return _of_each(info.batch_size, _apply(_KernelSlope, x, g, size)), 0


def _apply(function: Any, *given: Any) -> Tensor:
    found: Tensor = function.apply(*given)
    return found


def _grouped(
    size: int, tensors: tuple[Tensor, Tensor], in_dims: tuple[int | None, ...]
) -> list[Tensor]:
    """Both with the mapped dimension folded into that of the groups."""
    here = [
        tensor[None] if dim is None else tensor.movedim(dim, 0)
        for tensor, dim in zip(tensors, in_dims, strict=True)
    ]
    groups = max(tensor.shape[1] for tensor in here)
    return [
        tensor[0]
        if tensor.shape[:2] == (1, 1)  # the same for all
        else tensor.expand(size, groups, *tensor.shape[2:]).flatten(0, 1)
        for tensor in here
    ]


def _of_each(size: int, groups: Tensor) -> Tensor:
    """The inverse of :func:`_grouped`."""
    return groups.reshape(size, -1, *groups.shape[1:])


def _turned(weight: Tensor) -> Tensor:
    """The kernels that take slopes of outputs to those of inputs."""
    return weight.flip(-1, -2).transpose(1, 2)


def _summed(slope: Tensor | None, like: Tensor) -> Tensor | None:
    """Over groups, where there is one for all."""
    if slope is None or len(slope) == len(like):
        return slope
    return slope.sum(0, keepdim=True)


def _patches(x: Tensor, size: int) -> Tensor:
    """[G, B, C, H, W] → [G, B·H·W, k·k·C], zeros beyond the borders."""
    last = x.movedim(2, -1)
    if size > 1:
        half = size // 2
        padded = F.pad(last, (0, 0, half, half, half, half))
        last = padded.unfold(2, size, 1).unfold(3, size, 1).movedim(4, -1)
    return last.flatten(4).flatten(1, 3)
