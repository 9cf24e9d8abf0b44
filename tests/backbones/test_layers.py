"""Our layers: batch normalisation's derivatives, the order of a block, its memory layout."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from autometa.backbones.block import ConvBlock
from autometa.backbones.layers import EPSILON, BatchNorm


def normalised(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    layer = BatchNorm(x.shape[1])
    return functional_call(layer, {"weight": weight, "bias": bias}, (x,))  # type: ignore[no-any-return]


def inputs(*shape: int) -> list[Tensor]:
    """Far from zero mean and unit variance; a negative weight among the positive ones."""
    generator = torch.Generator().manual_seed(0)
    x = 2 * torch.randn(shape, generator=generator, dtype=torch.float64) + 3
    weight = torch.linspace(-1, 2, shape[1], dtype=torch.float64)
    bias = torch.randn(shape[1], generator=generator, dtype=torch.float64)
    return [each.requires_grad_() for each in (x, weight, bias)]


@pytest.mark.parametrize("shape", [(4, 3, 5, 5), (3, 2, 7)])
def test_batch_norm_has_the_derivatives_of_finite_differences(shape: tuple[int, ...]) -> None:
    given = inputs(*shape)
    assert torch.autograd.gradcheck(normalised, given)
    assert torch.autograd.gradgradcheck(normalised, given)


def test_batch_norm_is_torchs_to_the_second_derivative() -> None:
    def torchs(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return F.batch_norm(x, None, None, weight, bias, training=True, eps=EPSILON)

    found = []
    for function in (normalised, torchs):
        given = inputs(6, 3, 4, 4)
        output = function(*given)
        first = torch.autograd.grad(output.sin().sum(), given, create_graph=True)
        twice = torch.autograd.grad(sum(each.cos().sum() for each in first), given)
        found.append((output, *first, *twice))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)


def test_its_third_derivative_is_right_too() -> None:
    def slope(*given: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(normalised(*given).sin().sum(), given, create_graph=True)

    assert torch.autograd.gradgradcheck(slope, inputs(3, 2, 2, 2))


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (1, 3, 1, 1)])
def test_many_at_once_are_what_each_is_alone(shape: tuple[int, ...]) -> None:
    """Under nested maps, some with weights of their own, to the second derivative."""
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 2, *shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(3, shape[1], generator=generator, dtype=torch.float64)
    bias = torch.zeros(shape[1], dtype=torch.float64)

    def slope(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.func.grad(
            lambda *given: normalised(*given).sin().sum(), argnums=(0, 1, 2)
        )(x, weight, bias)
        return found

    def curve(x: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, ...]:
        found: tuple[Tensor, ...] = torch.func.grad(
            lambda *given: sum(each.cos().sum() for each in slope(*given)), argnums=(0, 1, 2)
        )(x, weight, bias)
        return found

    inner = torch.func.vmap(curve, in_dims=(0, None, None))
    together = torch.func.vmap(inner, in_dims=(0, 0, None))(x, weight, bias)
    for i in range(3):
        for j in range(2):
            given = [each.clone().requires_grad_() for each in (x[i, j], weight[i], bias)]
            first = torch.autograd.grad(
                normalised(*given).sin().sum(), given, create_graph=True, materialize_grads=True
            )
            alone = torch.autograd.grad(
                sum(each.cos().sum() for each in first), given, materialize_grads=True
            )
            for of_all, of_one in zip(together, alone, strict=True):
                torch.testing.assert_close(of_all[i, j], of_one, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("activation", [nn.ReLU(), nn.LeakyReLU(), nn.ELU(), nn.Tanh(), nn.SiLU()])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Identity()])
def test_a_block_activates_and_then_pools(activation: nn.Module, pool: nn.Module) -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 3, 3, padding=1), BatchNorm(3)
    x = torch.randn(4, 2, 8, 8, requires_grad=True)
    as_told = pool(activation(norm(conv(x))))
    block = ConvBlock(conv, norm, activation, pool)(x)
    torch.testing.assert_close(block, as_told)
    slopes = [torch.autograd.grad(each.square().sum(), x)[0] for each in (block, as_told)]
    torch.testing.assert_close(*slopes)


def test_features_keep_their_order_whatever_the_layout_in_memory() -> None:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(1, 3, 3, padding=1), BatchNorm(3)
    x = torch.randn(2, 1, 4, 4)
    features = nn.Flatten()(norm(conv(x)))
    assert torch.equal(features, norm(conv(x)).contiguous().flatten(1))
