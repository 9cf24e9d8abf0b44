"""Gradients at a point of named tensors, of the outer loop and of the inner one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor
from torch.func import grad_and_value
from torch.utils._pytree import tree_map

Params = dict[str, Tensor]
E = TypeVar("E")


def gradient(
    objective: Callable[[Params], tuple[Tensor, E]], point: Params, *, through: bool = False
) -> tuple[Params, Tensor, E]:
    """Gradient of ``objective`` at a point, and its two results: the value and what comes along.

    What comes along is a tensor, or nested dicts and tuples of them.

    Inside a transform of ``torch.func``, such as ``vmap``, it is one too. Elsewhere plain autograd
    takes it: ``torch.func`` always records the gradient's own graph, and one of each level, and
    normalisation has to do without torch's own operators there.

    Args:
        through: Whether all of this may itself be differentiated, or is constant.
    """
    if not point:
        return {}, *objective({})
    if torch._C._are_functorch_transforms_active():
        return _transformed(objective, point, through)
    recorded = through and torch.is_grad_enabled()
    leaves = {name: _leaf(value, recorded) for name, value in point.items()}
    with torch.enable_grad():
        value, extra = objective(leaves)
    found = torch.autograd.grad(
        value, list(leaves.values()), create_graph=recorded, materialize_grads=True
    )
    grads = dict(zip(leaves, found, strict=True))
    if recorded:
        return grads, value, extra
    return grads, value.detach(), tree_map(torch.Tensor.detach, extra)


def _leaf(value: Tensor, recorded: bool) -> Tensor:
    """A tensor to differentiate in: other uses of ``value`` in the objective don't count."""
    if recorded and value.requires_grad:
        return value.view_as(value)
    return value.detach().requires_grad_()


def _transformed(
    objective: Callable[[Params], tuple[Tensor, E]], point: Params, through: bool
) -> tuple[Params, Tensor, E]:
    here = point if through else constant(point)
    grads, (value, extra) = grad_and_value(objective, has_aux=True)(here)
    if through:
        return grads, value, extra
    return constant(grads), value.detach(), tree_map(torch.Tensor.detach, extra)


def constant(params: Params) -> Params:
    """The same numbers, which no gradient goes through."""
    return {name: value.detach() for name, value in params.items()}


def inner_gradient(
    objective: Callable[[Params], Tensor], point: Params, *, through: bool
) -> Params:
    """Gradient of a loss of the inner loop, whose value doesn't matter; as :func:`gradient`."""

    def valued(params: Params) -> tuple[Tensor, tuple[()]]:
        return objective(params), ()

    return gradient(valued, point, through=through)[0]
