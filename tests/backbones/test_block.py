"""The usual block's own derivatives, beside those of its layers one by one and of differences."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from autometa.backbones import block as blocks
from autometa.backbones.block import ConvBlock
from autometa.backbones.layers import BatchNorm
from autometa.learners.batch_norms import watched

CONVOLUTIONS = {
    "usual": {"kernel_size": 3, "padding": 1},
    "without bias": {"kernel_size": 3, "padding": 1, "bias": False},
    "wide": {"kernel_size": 5, "padding": 2},
    "strided, dilated, in groups": {"kernel_size": 3, "stride": 2, "dilation": 2, "groups": 2},
}


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[ConvBlock]:
    """The blocks that were one function."""
    found: list[ConvBlock] = []
    usual = blocks._usual

    def counted(block: ConvBlock, x: Tensor) -> Tensor:
        found.append(block)
        return usual(block, x)

    monkeypatch.setattr(blocks, "_usual", counted)
    return found


def block_of(convolution: dict[str, Any], pool: nn.Module | None = None) -> ConvBlock:
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(2, 4, **convolution), BatchNorm(4)
    nn.init.uniform_(norm.weight, -1, 2)
    nn.init.normal_(norm.bias)
    return ConvBlock(conv, norm, nn.ReLU(), pool or nn.MaxPool2d(2)).double()


def by_layers(block: ConvBlock, x: Tensor) -> Tensor:
    """As the block is written, of torch's own layers."""
    norm = nn.BatchNorm2d(4, track_running_stats=False).double()
    normed = functional_call(norm, dict(block.norm.named_parameters()), (block.conv(x),))
    return block.activation(block.pool(normed))  # type: ignore[no-any-return]


def derivatives(output: Tensor, point: list[Tensor]) -> list[Tensor]:
    """Of the first order, and what the second one comes to along some direction."""
    first = torch.autograd.grad(output.sin().sum(), point, create_graph=True)
    along = sum(each.cos().sum() for each in first) + output.square().sum()
    return [*first, *torch.autograd.grad(along, point)]


@pytest.mark.parametrize("images_too", [False, True])
@pytest.mark.parametrize("pool", [nn.MaxPool2d(2), nn.MaxPool2d(3, 2, 1)])
@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_it_is_its_layers_to_the_second_derivative(
    name: str, pool: nn.Module, images_too: bool, calls: list[ConvBlock]
) -> None:
    block = block_of(CONVOLUTIONS[name], pool)
    x = torch.randn(3, 2, 12, 12, dtype=torch.float64, requires_grad=images_too)
    point = [*block.parameters(), *([x] if images_too else [])]
    outputs = [block(x), by_layers(block, x)]
    assert calls == [block]
    torch.testing.assert_close(*outputs, rtol=1e-10, atol=1e-10)
    ours, theirs = (derivatives(output, point) for output in outputs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_its_derivatives_are_those_of_finite_differences(calls: list[ConvBlock]) -> None:
    block = block_of(CONVOLUTIONS["usual"])
    names = [name for name, _ in block.named_parameters()]
    x = torch.randn(2, 2, 6, 6, dtype=torch.float64, requires_grad=True)

    def output(x: Tensor, *weights: Tensor) -> Tensor:
        given = dict(zip(names, weights, strict=True))
        return functional_call(block, given, (x,))  # type: ignore[no-any-return]

    def slope(*given: Tensor) -> tuple[Tensor, ...]:
        return torch.autograd.grad(output(*given).sin().sum(), given, create_graph=True)

    given = (x, *block.parameters())
    assert torch.autograd.gradcheck(output, given)
    assert torch.autograd.gradgradcheck(output, given)
    assert torch.autograd.gradgradcheck(slope, given)
    assert calls


def test_a_derivative_in_some_of_the_weights_is_the_same(calls: list[ConvBlock]) -> None:
    block = block_of(CONVOLUTIONS["usual"])
    block.conv.weight.requires_grad_(False)
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64, requires_grad=True)
    point = [x, cast(Tensor, block.norm.weight)]
    ours, theirs = (derivatives(each(x), point) for each in (block, lambda x: by_layers(block, x)))
    assert calls == [block]
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)


def test_layers_that_are_watched_are_called(calls: list[ConvBlock]) -> None:
    """As MAML++ does for its running statistics."""
    block = block_of(CONVOLUTIONS["usual"])
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    with watched(block, {}) as seen:
        block(x)
    assert not calls
    torch.testing.assert_close(seen["norm.mean"], block.conv(x).mean((0, 2, 3)))


def test_where_nothing_or_another_derivative_is_asked_for_its_layers_are_called(
    calls: list[ConvBlock],
) -> None:
    block = block_of(CONVOLUTIONS["usual"])
    x = torch.randn(3, 2, 8, 8, dtype=torch.float64)
    alone = block(x)
    assert calls == [block]
    with torch.no_grad():
        torch.testing.assert_close(block(x), alone)
    torch.testing.assert_close(vmap(block)(x[None])[0], alone)
    assert calls == [block]


@pytest.mark.parametrize(
    "other",
    [
        ConvBlock(nn.Conv2d(2, 4, 3), BatchNorm(4), nn.Tanh(), nn.MaxPool2d(2)),
        ConvBlock(nn.Conv2d(2, 4, 3), BatchNorm(4), nn.ReLU(), nn.AvgPool2d(2)),
        ConvBlock(nn.Conv2d(2, 4, 3), nn.Identity(), nn.ReLU(), nn.MaxPool2d(2)),
        ConvBlock(nn.Conv2d(2, 4, 3, padding="same"), BatchNorm(4), nn.ReLU(), nn.MaxPool2d(2)),
        ConvBlock(nn.Conv2d(2, 4, 1), BatchNorm(4), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(2, 4, 1)),
    ],
)
def test_a_block_of_other_layers_is_its_layers(other: ConvBlock, calls: list[ConvBlock]) -> None:
    x = torch.randn(3, 2, 8, 8)
    normed = other.norm(other.conv(x))
    if other.shortcut is not None:
        normed = normed + other.shortcut(x)
    torch.testing.assert_close(other(x), other.pool(other.activation(normed)))
    assert not calls
