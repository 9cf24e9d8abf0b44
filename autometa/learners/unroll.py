"""The steps of an inner loop in a row, which the outer loop may differentiate through.

Autograd keeps what every step computed until then, so memory grows with the steps. Computed anew in
⌈√S⌉ segments of as many steps, it grows with √S, for one more pass of the loop: T. Chen, B. Xu, C.
Zhang, C. Guestrin, "Training Deep Nets with Sublinear Memory Cost", 2016, arXiv:1604.06174,
section 4.1. ``torch.utils.checkpoint`` does this for what doesn't differentiate within itself: it
refuses an inner gradient that is to be differentiated again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_unflatten

Params = dict[str, Tensor]
Step = Callable[[Params, Any, Any], Params]
Tensors = tuple[Tensor, ...]


def unroll(
    step: Step, start: Params, given: Sequence[Any], shared: Any, *, recompute: bool
) -> Params:
    """The weights after all steps, weights ← step(weights, own, shared).

    Args:
        start: The weights before; a step returns all of them.
        given: Of each step its own tensors, in dicts or tuples.
        shared: Tensors that all steps get, likewise.
        recompute: Whether to trade time for memory as above. A step may then use no other tensors
            than what it gets, and the gradient can't be differentiated again.
    """
    length = math.ceil(math.sqrt(len(given))) if recompute else len(given)
    weights = start
    for first in range(0, len(given), max(length, 1)):
        segment = given[first : first + length]
        together = _recomputed if recompute else _stepped
        weights = together(step, weights, segment, shared)
    return weights


def _stepped(step: Step, weights: Params, given: Sequence[Any], shared: Any) -> Params:
    for own in given:
        weights = step(weights, own, shared)
    return weights


def _recomputed(step: Step, weights: Params, given: Sequence[Any], shared: Any) -> Params:
    leaves, layout = tree_flatten((weights, list(given), shared))

    def run(*tensors: Tensor) -> Tensors:
        after = _stepped(step, *tree_unflatten(list(tensors), layout))
        return tuple(after[name] for name in weights)

    after: Tensors = _Recomputed.apply(run, *leaves)  # type: ignore[no-untyped-call]
    return dict(zip(weights, after, strict=True))


class _Recomputed(torch.autograd.Function):
    """A function of tensors that keeps nothing but these."""

    generate_vmap_rule = True

    @staticmethod
    def forward(run: Callable[..., Tensors], *tensors: Tensor) -> Tensors:
        return run(*tensors)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: Tensors) -> None:
        ctx.run, *tensors = inputs
        ctx.save_for_backward(*tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        tensors, needed = ctx.saved_tensors, ctx.needs_input_grad[1:]
        at = [index for index, need in enumerate(needed) if need]

        def run(*free: Tensor) -> Tensors:
            every = list(tensors)
            for index, tensor in zip(at, free, strict=True):
                every[index] = tensor
            found: Tensors = ctx.run(*every)
            return found

        free = [tensors[index] for index in at]
        if torch._C._are_functorch_transforms_active():
            # They have autograd record the backward pass too, which would keep all that is in it.
            with torch.no_grad():
                found = torch.func.vjp(run, *free)[1](grads)
        else:
            found = _vjp(run, free, grads)
        back: list[Tensor | None] = [None] * len(tensors)
        for index, grad in zip(at, found, strict=True):
            back[index] = grad
        return None, *back


def _vjp(run: Callable[..., Tensors], at: Sequence[Tensor], grads: Tensors) -> Tensors:
    leaves = [tensor.detach().requires_grad_() for tensor in at]
    with torch.enable_grad():
        outputs = run(*leaves)
    return torch.autograd.grad(outputs, leaves, grads, materialize_grads=True)
