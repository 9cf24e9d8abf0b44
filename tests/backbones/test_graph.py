"""A network's boxes against its parameters and shapes as torch has them, and against its blocks."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor, nn

from autometa.backbones import BACKBONES
from autometa.backbones.base import Backbone, Shape, measured
from autometa.backbones.graph import Drawing, drawing_of, told
from autometa.backbones.layers import BatchNorm
from autometa.testing.backbones import random_sample

SHAPES: dict[str, Shape] = {
    "conv": (1, 28, 28),
    "conv1d": (2, 32),
    "conv4": (3, 32, 32),
    "mlp": (3,),
    "resnet": (3, 32, 32),
    "cell": (3, 16, 16),
}


def boxes_told(drawing: Drawing) -> list[tuple[str, tuple[int, ...], list[str]]]:
    return [(b.name, b.sources, [layer.told for layer in b.layers]) for b in drawing.boxes]


def on_meta(module: type[nn.Module], in_shape: Shape) -> Backbone:
    with torch.device("meta"):
        return measured(module(), in_shape)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", SHAPES)
def test_boxes_hold_every_parameter_and_lead_to_the_embedding(name: str, seed: int) -> None:
    assert set(SHAPES) == set(BACKBONES), "a new space joins this test"
    space, shape = BACKBONES.load(name)(), SHAPES[name]
    backbone = space.build(random_sample(space, shape, seed), shape)
    drawing = drawing_of(backbone)
    assert drawing.traced
    first, *others, last = drawing.boxes
    assert (first.shape, first.sources) == (shape, ())
    assert last.shape == (backbone.features,)
    assert sum(box.parameters for box in drawing.boxes) == backbone.parameters
    for place, box in enumerate([*others, last], start=1):
        assert box.sources
        assert max(box.sources) < place
    read = {source for box in drawing.boxes for source in box.sources}
    loose = set(range(len(drawing.boxes) - 1)) - read
    names = {drawing.boxes[place].name for place in loose}
    assert all(re.fullmatch(r"cell\d\.preprocessor\.\w+", name) for name in names)


def test_vinyals_conv4_is_four_boxes_in_a_row() -> None:
    space = BACKBONES.load("conv4")()
    drawing = drawing_of(space.build(space.default(), (1, 28, 28)))
    block = ["conv 3×3, 64", "batch norm", "max pool 2", "relu"]
    assert boxes_told(drawing) == [
        ("input", (), ["input"]),
        *((f"conv{i}", (i - 1,), block) for i in range(1, 5)),
        ("flatten", (4,), ["flatten"]),
    ]
    assert [box.shape for box in drawing.boxes[1:5]] == [
        (64, 14, 14),
        (64, 7, 7),
        (64, 3, 3),
        (64, 1, 1),
    ]


def test_a_residual_block_is_a_body_and_a_shortcut_that_meet() -> None:
    space = BACKBONES.load("resnet")()
    drawing = drawing_of(space.build(space.default(), (3, 32, 32)))
    unit = ["conv 3×3, 64", "batch norm", "leaky relu"]
    assert boxes_told(drawing)[1:4] == [
        ("block1.body", (0,), [*unit, *unit, *unit[:2]]),
        ("block1.shortcut", (0,), ["conv 1×1, 64", "batch norm"]),
        ("block1", (1, 2), ["+", "leaky relu", "max pool 2"]),
    ]


def test_a_cell_reads_what_its_genotype_says() -> None:
    """The first normal cell of DARTS_V2: two of its nodes add an input to an operator."""
    space = BACKBONES.load("cell")()
    boxes = boxes_told(drawing_of(space.build(space.default(), (3, 16, 16))))
    cell = [(name, sources, told) for name, sources, told in boxes if name.startswith("cell1")]
    assert [told for _, sources, told in cell if len(sources) > 1] == [["sum"]] * 4 + [["cat"]]
    (nodes,) = [sources for _, sources, told in cell if told == ["cat"]]
    first, second, third, fourth = ({boxes[s][0]: boxes[s][1] for s in boxes[n][1]} for n in nodes)
    assert set(first) == {"cell1.ops.0.0", "cell1.ops.0.1"}
    assert set(second) == {"cell1.ops.1.0", "cell1.ops.1.1"}
    assert set(third) == {"cell1.ops.2.0", "cell1.preprocessor.first"}
    assert set(fourth) == {"cell1.ops.3.1", "cell1.preprocessor.first"}
    assert fourth["cell1.ops.3.1"] == (nodes[0],), "the dilated convolution reads the first node"


class Counting(nn.Module):
    """How often it runs its layer depends on its input: no graph says so."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 6)
        self.again = nn.Linear(6, 6)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for _ in range(x.shape[1] // 2):
            x = torch.relu(self.again(x))
        return x


class Branching(nn.Module):
    """Adds a bias of its own, and what it added it to."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self.shift = nn.Parameter(torch.zeros(4))

    def forward(self, x: Tensor) -> Tensor:
        return x + (self.linear(x) + self.shift)


def test_a_forward_that_cant_be_traced_is_a_list_of_layers() -> None:
    backbone = on_meta(Counting, (4,))
    drawing = drawing_of(backbone)
    assert not drawing.traced
    assert sum(box.parameters for box in drawing.boxes) == backbone.parameters
    assert boxes_told(drawing) == [
        ("input", (), ["input"]),
        ("first", (0,), ["linear 6"]),
        ("again", (1,), ["linear 6"] * 3),
    ]


def test_a_parameter_outside_of_layers_is_a_box() -> None:
    backbone = on_meta(Branching, (4,))
    drawing = drawing_of(backbone)
    assert drawing.traced
    assert ("shift", (), ["parameter"]) in boxes_told(drawing)
    assert sum(box.parameters for box in drawing.boxes) == backbone.parameters
    assert len(drawing.boxes[-1].sources) == 2


@pytest.mark.parametrize(
    ("layer", "words"),
    [
        (nn.Conv2d(8, 16, 3, stride=2), "conv 3×3, 16, stride 2"),
        (nn.Conv2d(8, 8, 5, groups=8, dilation=2), "depthwise 5×5, 8, dilation 2"),
        (nn.Conv1d(8, 8, 5, groups=2), "conv 5, 8, 2 groups"),
        (nn.AvgPool2d((2, 3)), "avg pool 2×3"),
        (nn.LeakyReLU(), "leaky relu"),
        (nn.BatchNorm2d(4), "batch norm"),
        (BatchNorm(4), "batch norm"),
        (nn.GELU(), "gelu"),
    ],
)
def test_a_layer_in_words(layer: nn.Module, words: str) -> None:
    assert told(layer) == words
