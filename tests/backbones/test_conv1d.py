"""Nets for sequences against the contract, and against a hand-written network."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, vmap

from autometa.backbones import BACKBONES
from autometa.backbones.base import BackboneSpace, Shape
from autometa.backbones.layers import BatchNorm, GroupNorm
from autometa.learners.base import initial_parameters
from autometa.testing.backbones import BackboneSpaceTestCase


class TestConv1d(BackboneSpaceTestCase):
    in_shape: ClassVar[Shape] = (2, 24)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("conv1d")()


def test_default_is_conv4_along_one_dimension() -> None:
    space = BACKBONES.load("conv1d")()
    backbone = space.build(space.default(), (3, 50))
    weights = initial_parameters(backbone.module, torch.Generator().manual_seed(0))
    x = out = torch.rand(5, 3, 50)
    for i in range(1, 5):
        layer = {k.partition(".")[2]: v for k, v in weights.items() if k.startswith(f"conv{i}.")}
        out = F.conv1d(out, layer["conv.weight"], layer["conv.bias"], padding=1)
        out = F.batch_norm(out, None, None, layer["norm.weight"], layer["norm.bias"], training=True)
        out = F.max_pool1d(F.relu(out), 2)
    torch.testing.assert_close(functional_call(backbone.module, weights, (x,)), out.flatten(1))
    assert backbone.features == 64 * 3
    assert backbone.parameters == 3 * 3 * 64 + 3 * 3 * 64 * 64 + 4 * 64 * 3
    assert backbone.macs == 3 * 64 * (3 * 50 + 64 * (25 + 12 + 6))


@pytest.mark.parametrize("size", [(6, 4), (1, 1)])
def test_norms_of_sequences_equal_torch_in_and_out_of_transforms(size: tuple[int, int]) -> None:
    batch, length = size
    x = torch.randn(batch, 16, length)
    pairs: list[tuple[nn.Module, nn.Module]] = [(GroupNorm(16), nn.GroupNorm(2, 16))]
    if batch > 1:
        pairs.append((BatchNorm(16), nn.BatchNorm1d(16, track_running_stats=False)))
    for ours, theirs in pairs:
        expected = theirs(x)
        torch.testing.assert_close(ours(x), expected)
        torch.testing.assert_close(vmap(ours)(x.expand(2, *x.shape))[1], expected)
