"""Gradients through many steps in little memory: what a step computes is computed again.

T. Chen, B. Xu, C. Zhang, C. Guestrin: "Training Deep Nets with Sublinear Memory Cost", 2016,
https://arxiv.org/abs/1604.06174

A chain of n steps is cut into segments of √n. Of a segment nothing is kept but what it begins with;
the outer gradient runs its steps a second time, with their graph, when it comes by. So there are
the graphs of √n steps at once and the beginnings of √n segments, not the graphs of n steps.

``torch.utils.checkpoint`` isn't for steps that contain gradients: reentrant it refuses them;
otherwise each inner gradient makes it run the segment again there and then and keep what that made,
so that 64 steps run 416 times and take more memory than without; and ``torch.func`` refuses both.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

from .gradients import gradient

S = TypeVar("S")
T = TypeVar("T")


def unrolled(
    step: Callable[..., S], start: S, rows: Iterable[Any], *given: Any, recompute: bool
) -> S:
    """Where steps lead: ``state = step(state, row, *given)`` for each of the rows.

    States, rows and what is given are tensors or nested dicts and sequences with tensors in them.

    Args:
        recompute: Whether a gradient through the steps computes them again, as of
            :func:`recomputed`, in memory that grows with the square root of their number.
    """

    def segment(state: S, rows: list[Any], *given: Any) -> S:
        for row in rows:
            state = step(state, row, *given)
        return state

    rows = list(rows)
    if not recompute:
        return segment(start, rows, *given)
    # Rounded down, for the graph of a step is larger than what a segment begins with.
    size = max(1, math.isqrt(len(rows)))
    state = start
    for first in range(0, len(rows), size):
        state = recomputed(segment, state, rows[first : first + size], *given)
    return state


def recomputed(function: Callable[..., T], *given: Any) -> T:
    """``function(*given)``, of which a gradient keeps only what is given and computes the rest.

    The gradient is the same; it can't be differentiated itself.

    Args:
        function: Of tensors or nested dicts and sequences with tensors in them, to the same. All
            that a gradient goes through must be given. What it captures are constants: also numbers
            that ``vmap`` has batched, as long as every ``vmap`` lies outside of the gradient, since
            torch then runs it again at the same levels.
    """
    leaves, inside = tree_flatten(given)
    tensors = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, Tensor)}
    others = [None if i in tensors else leaf for i, leaf in enumerate(leaves)]
    outside: list[TreeSpec] = []

    def flat(*values: Tensor) -> tuple[Tensor, ...]:
        filled = list(others)
        for place, value in zip(tensors, values, strict=True):
            filled[place] = value
        results, spec = tree_flatten(function(*tree_unflatten(filled, inside)))
        outside[:] = [spec]
        return tuple(results)

    found = _Recomputed.apply(flat, *tensors.values())  # type: ignore[no-untyped-call]
    return tree_unflatten(found, outside[0])  # type: ignore[no-any-return]


class _Recomputed(torch.autograd.Function):
    """A function of tensors as one node of the graph, under transforms of ``torch.func`` as well.

    Torch runs :meth:`forward` without recording, and there the inner gradients don't either.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(function: Callable[..., tuple[Tensor, ...]], *given: Tensor) -> tuple[Tensor, ...]:
        return function(*given)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.function, *given = inputs
        ctx.save_for_backward(*given)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> Any:
        """The gradient of Σ ⟨slope, result⟩, which is the vector-Jacobian product."""
        given = {i: t.detach() for i, t in enumerate(ctx.saved_tensors)}
        point = {str(i): given[i] for i in given if ctx.needs_input_grad[1 + i]}

        def product(point: dict[str, Tensor]) -> tuple[Tensor, tuple[()]]:
            results = ctx.function(*(point.get(str(i), value) for i, value in given.items()))
            parts = [(v.detach() * result).sum() for v, result in zip(slopes, results, strict=True)]
            return torch.stack(parts).sum(), ()

        grads = gradient(product, point)[0]
        return None, *(grads.get(str(i)) for i in given)
