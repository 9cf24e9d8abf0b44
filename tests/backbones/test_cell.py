"""Cells against the contract, and the paper's cells against a forward pass written by hand."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.backbones import BACKBONES
from autometa.backbones.base import BackboneSpace, Option, Shape
from autometa.learners.base import Params, initial_parameters, under
from autometa.testing.backbones import BackboneSpaceTestCase, random_sample

# As DARTS's code writes its result of second order down: (operator, input), two a node.
NORMAL = [
    [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
    [("sep_conv_3x3", 0), ("sep_conv_3x3", 1)],
    [("sep_conv_3x3", 1), ("skip_connect", 0)],
    [("skip_connect", 0), ("dil_conv_3x3", 2)],
]
REDUCE = [
    [("max_pool_3x3", 0), ("max_pool_3x3", 1)],
    [("skip_connect", 2), ("max_pool_3x3", 1)],
    [("max_pool_3x3", 0), ("skip_connect", 2)],
    [("skip_connect", 2), ("max_pool_3x3", 1)],
]


class TestCell(BackboneSpaceTestCase):
    """With the narrowest cells: finite differences in float64 are slow."""

    in_shape: ClassVar[Shape] = (1, 9, 9)

    @pytest.fixture
    def space(self) -> BackboneSpace:
        return BACKBONES.load("cell")()

    @pytest.fixture(params=range(8))
    def sample(self, request: pytest.FixtureRequest, space: BackboneSpace) -> dict[str, Option]:
        return random_sample(space, self.in_shape, int(request.param)) | {"width": 8}


def norm(x: Tensor, weights: Params, name: str) -> Tensor:
    scale, shift = weights[f"{name}.weight"], weights[f"{name}.bias"]
    return F.batch_norm(x, None, None, scale, shift, training=True)


def reduced(x: Tensor, weights: Params) -> Tensor:
    """Even places by one half of the filters, odd ones by the other (beyond the border: 0)."""
    x = F.relu(x)
    even, odd = x[:, :, ::2, ::2], torch.zeros_like(x[:, :, ::2, ::2])
    beyond = x[:, :, 1::2, 1::2]
    odd[:, :, : beyond.shape[2], : beyond.shape[3]] = beyond
    halves = [F.conv2d(even, weights["even.weight"]), F.conv2d(odd, weights["odd.weight"])]
    return norm(torch.cat(halves, 1), weights, "norm")


def depthwise(x: Tensor, weights: Params, first: int, stride: int, dilation: int) -> Tensor:
    kernel = weights[f"{first + 1}.weight"]
    padding = dilation * (kernel.shape[-1] // 2)
    x = F.conv2d(F.relu(x), kernel, None, stride, padding, dilation, groups=x.shape[1])
    return norm(F.conv2d(x, weights[f"{first + 2}.weight"]), weights, str(first + 3))


def operate(name: str, x: Tensor, weights: Params, stride: int) -> Tensor:
    if name == "max_pool_3x3":
        return F.max_pool2d(x, 3, stride, 1)
    if name == "skip_connect":
        return x if stride == 1 else reduced(x, weights)
    if name == "dil_conv_3x3":
        return depthwise(x, weights, 0, stride, 2)
    assert name == "sep_conv_3x3"
    return depthwise(depthwise(x, weights, 0, stride, 1), weights, 4, 1, 1)


def cell(inputs: list[Tensor], weights: Params, *, reduces: bool, after_reduction: bool) -> Tensor:
    first, second = inputs
    if after_reduction:
        first = reduced(first, under("preprocessor.first", weights))
    else:
        first = F.conv2d(F.relu(first), weights["preprocessor.first.1.weight"])
        first = norm(first, weights, "preprocessor.first.2")
    second = F.conv2d(F.relu(second), weights["preprocessor.second.1.weight"])
    states = [first, norm(second, weights, "preprocessor.second.2")]
    for node, edges in enumerate(REDUCE if reduces else NORMAL):
        total = torch.zeros(())
        for edge, (name, source) in enumerate(edges):
            own = under(f"ops.{node}.{edge}", weights)
            total = total + operate(name, states[source], own, 2 if reduces and source < 2 else 1)
        states.append(total)
    return torch.cat(states[2:], 1)


@pytest.mark.parametrize("side", [11, 12])
def test_the_default_has_the_papers_cells(side: int) -> None:
    space = BACKBONES.load("cell")()
    backbone = space.build({**space.default(), "depth": 5}, (3, side, side))
    weights = initial_parameters(backbone.module, torch.Generator().manual_seed(0))
    x = torch.rand(4, 3, side, side)
    before = last = norm(F.conv2d(x, weights["stem.0.weight"], padding=1), weights, "stem.1")
    for i in range(1, 6):
        own, reduces = under(f"cell{i}", weights), i % 2 == 0
        found = cell([before, last], own, reduces=reduces, after_reduction=i in (3, 5))
        before, last = last, found
    assert last.shape == (4, 4 * 64, 3, 3)
    torch.testing.assert_close(
        functional_call(backbone.module, weights, (x,)), last.mean((2, 3)), rtol=1e-4, atol=1e-5
    )


def test_parameters_and_macs_of_the_default_are_counted_by_hand() -> None:
    """Two cells: a normal one of 16 channels at 28 × 28, then a reduction of 32 to 14 × 14."""
    space = BACKBONES.load("cell")()
    backbone = space.build({**space.default(), "depth": 2}, (3, 28, 28))
    stem = 9 * 3 * 48
    # Five separable convolutions of two halves each, a dilated one like a half, and the inputs'.
    normal = 2 * 48 * 16 + (5 * 2 + 1) * (9 * 16 + 16 * 16)
    # Its skips read its own first node, at stride 1: they and the pools have no parameters.
    reduction = (48 + 4 * 16) * 32
    norms = 2 * (48 + (2 + 5 * 2 + 1) * 16 + 2 * 32)
    assert backbone.parameters == stem + normal + reduction + norms
    assert backbone.macs == 28 * 28 * (stem + normal + reduction)
    assert backbone.features == 4 * 32


def test_every_operator_halves_odd_and_even_images_alike() -> None:
    """A reduction's outputs are summed: each operator must give ⌈side / 2⌉, down to one pixel."""
    space = BACKBONES.load("cell")()
    for name in space.choices((1, 8, 8))["reduce/op_2_1"]:
        sample = {**space.default(), "nodes": 2, "depth": 3, "reduce/op_2_1": name}
        sample = {k: v for k, v in sample.items() if space.active(k, sample)}
        for side in (1, 5, 8):
            assert space.build(sample, (1, side, side)).features == 2 * 32


def test_labels_matter_only_where_they_are_used() -> None:
    space = BACKBONES.load("cell")()
    sample = {"depth": 2, "nodes": 2, "normal/op_3_1": "none", "normal/op_2_1": "skip_connect"}
    active = {label for label in space.choices((1, 28, 28)) if space.active(label, sample)}
    assert "normal/input_2_1" in active
    assert "normal/input_3_1" not in active
    assert "normal/input_3_0" in active
    assert not [label for label in active if "_4_" in label or "_5_" in label]


@pytest.mark.parametrize("label", ["normal/op_2_0", "reduce/op_5_0"])
def test_no_node_is_left_empty(label: str) -> None:
    choices = BACKBONES.load("cell")().choices((1, 28, 28))
    assert "none" not in choices[label]
    assert "none" in choices[label[:-1] + "1"]


def test_an_operator_that_is_none_is_not_there() -> None:
    space = BACKBONES.load("cell")()
    sample = {**space.default(), "normal/op_2_1": "none"}
    del sample["normal/input_2_1"]
    network = space.network(sample, (3, 8, 8))
    default = space.network(space.default(), (3, 8, 8))
    lost = {n for n, _ in default.named_parameters()} - {n for n, _ in network.named_parameters()}
    assert {name[: len("cell1.ops.0.1.")] for name in lost} == {
        "cell1.ops.0.1.",
        "cell3.ops.0.1.",
    }


def test_nni_freezes_a_sample_to_the_same_network() -> None:
    space = BACKBONES.load("cell")()
    by_nni = space.model_space((1, 28, 28)).freeze(space.nni_sample(space.default()))
    assert repr(by_nni) == repr(space.network(space.default(), (1, 28, 28)))
