"""Convolutions as matrix products: torch's own numbers, to the second derivative."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import grad, vmap
from torch.utils.flop_counter import FlopCounterMode

from autometa.engine.convolutions import BatchedConvolutions

Compute = Callable[..., Any]


def adapted_loss(size: int) -> Compute:
    """Of two layers after two gradient steps on their kernels."""

    def loss(w: Tensor, w2: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        hidden = torch.tanh(F.conv2d(x, w, b, padding=size // 2))
        return (F.conv2d(hidden, w2, padding=size // 2) - y).square().mean()

    def adapted(w: Tensor, w2: Tensor, b: Tensor, x: Tensor, y: Tensor) -> Tensor:
        for _ in range(2):
            of_w, of_w2 = grad(loss, argnums=(0, 1))(w, w2, b, x, y)
            w, w2 = w - of_w, w2 - of_w2
        return loss(w, w2, b, x + 1, y)

    return adapted


def drawn(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape))).double()


def compared(function: Compute, *given: Tensor) -> None:
    expected = function(*given)
    with BatchedConvolutions():
        actual = function(*given)
    torch.testing.assert_close(actual, expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("size", [1, 3, 5])
def test_meta_gradients_of_tasks_and_of_members_are_those_of_torch(size: int) -> None:
    meta = grad(adapted_loss(size), argnums=(0, 1, 2))
    tasks = vmap(meta, in_dims=(None, None, None, 0, 0))
    members = vmap(tasks, in_dims=(0, 0, 0, None, None))
    x, y = drawn(5, 2, 3, 6, 4), drawn(5, 2, 2, 6, 4)
    compared(tasks, drawn(4, 3, size, size), drawn(2, 4, size, size), drawn(4), x, y)
    compared(members, drawn(3, 4, 3, size, size), drawn(3, 2, 4, size, size), drawn(3, 4), x, y)


def test_a_gradient_around_the_tasks_sums_over_them() -> None:
    tasks = vmap(adapted_loss(3), in_dims=(None, None, None, 0, 0))
    outer = grad(lambda *given: tasks(*given).sum(), argnums=(0, 1, 2, 3))
    x, y = drawn(5, 2, 3, 6, 6), drawn(5, 2, 2, 6, 6)
    compared(outer, drawn(4, 3, 3, 3), drawn(2, 4, 3, 3), drawn(4), x, y)


@pytest.mark.parametrize("options", [{}, {"stride": 1}, {"padding": 1, "ceil_mode": True}], ids=str)
def test_maxima_are_torchs_to_the_second_derivative(options: dict[str, Any]) -> None:
    """Also of a product with the curvature, whose vector comes from outside."""

    def loss(w: Tensor, x: Tensor) -> Tensor:
        hidden = F.conv2d(x, w, padding=1)
        return F.max_pool2d(hidden, 2, **options).sin().sum()

    def product(w: Tensor, x: Tensor) -> Any:
        return torch.func.vjp(lambda w: grad(loss)(w, x), w)[1](w.cos())[0]

    members = vmap(vmap(product, in_dims=(None, 0)), in_dims=(0, None))
    compared(members, drawn(3, 4, 3, 3, 3), drawn(5, 2, 3, 7, 6))
    compared(
        vmap(grad(lambda w, x: product(w, x).sum()), in_dims=(None, 0)),
        drawn(4, 3, 3, 3),
        drawn(5, 2, 3, 7, 6),
    )


@pytest.mark.parametrize(
    "options",
    [{"stride": 2, "padding": 1}, {"padding": 0}, {"padding": 1, "groups": 2}, {"padding": "same"}],
    ids=str,
)
def test_others_are_left_to_torch(options: dict[str, Any]) -> None:
    x, weight = drawn(2, 4, 6, 6), drawn(4, 4 // options.get("groups", 1), 3, 3)
    with FlopCounterMode(display=False) as counter, BatchedConvolutions():
        actual = F.conv2d(x, weight, **options)
    torch.testing.assert_close(actual, F.conv2d(x, weight, **options), rtol=0, atol=0)
    assert list(counter.get_flop_counts()["Global"]) == [torch.ops.aten.convolution]
