"""DARTS's cells (Liu et al., ICLR 2019, arXiv:1806.09055): normal and reduction cells in turns.

A cell reads the two before it. Each of its nodes adds two operators, which read the cell's inputs
or earlier nodes; its output is all nodes side by side. The default has the cells that the paper
found (DARTS_V2 in its code, second order). Unlike there, 2 to 5 cells are stacked, not 20, and
every second one reduces, not two of all; only a node's second operator may be ``none``, so that no
node is empty; there is neither drop path nor an auxiliary head; norms are the batch's own.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autometa.backbones.base import Condition, Option, Sample, Shape
from autometa.backbones.layers import AvgPool, BatchNorm
from autometa.backbones.nni_space import Cell, NNISpace, RebuiltSpace, choice, frozen, passed_over

NONE = "none"
EDGE = re.compile(r"(normal|reduce)/(op|input)_(\d)_(\d)")
STEM_FACTOR = 3
DARTS_V2 = {
    "normal": "sep_conv_3x3 0 sep_conv_3x3 1 sep_conv_3x3 0 sep_conv_3x3 1 "
    "sep_conv_3x3 1 skip_connect 0 skip_connect 0 dil_conv_3x3 2",
    "reduce": "max_pool_3x3 0 max_pool_3x3 1 skip_connect 2 max_pool_3x3 1 "
    "max_pool_3x3 0 skip_connect 2 skip_connect 2 max_pool_3x3 1",
}
"""Each edge's operator and input, two edges a node; 0 and 1 are the cell's inputs, 2 a node."""


class Zero(nn.Module):
    """No connection: zeros of the shape that another operator would give."""

    def __init__(self, stride: int) -> None:
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return torch.zeros_like(x[:, :, :: self.stride, :: self.stride])


class FactorizedReduce(nn.Module):
    """Half the image by two 1×1 convolutions, of which one reads the odd places."""

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.even = nn.Conv2d(channels, width // 2, 1, 2, bias=False)
        self.odd = nn.Conv2d(channels, width // 2, 1, 2, bias=False)
        self.norm = BatchNorm(width)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu(x)
        shifted = F.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]
        return self.norm(torch.cat([self.even(x), self.odd(shifted)], 1))  # type: ignore[no-any-return]


def _unit(width: int, kernel: int, stride: int, dilation: int = 1) -> list[nn.Module]:
    """ReLU, depthwise convolution, 1×1 convolution, norm."""
    padding = dilation * (kernel // 2)
    depthwise = nn.Conv2d(width, width, kernel, stride, padding, dilation, groups=width, bias=False)
    return [nn.ReLU(), depthwise, nn.Conv2d(width, width, 1, bias=False), BatchNorm(width)]


def _separable(kernel: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(*_unit(width, kernel, stride), *_unit(width, kernel, 1))


def _dilated(kernel: int, width: int, stride: int) -> nn.Module:
    return nn.Sequential(*_unit(width, kernel, stride, dilation=2))


def _skip(width: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(width, width)


OPERATORS: dict[str, Callable[[int, int], nn.Module]] = {
    NONE: lambda width, stride: Zero(stride),
    "skip_connect": _skip,
    "max_pool_3x3": lambda width, stride: nn.MaxPool2d(3, stride, 1),
    "avg_pool_3x3": lambda width, stride: AvgPool(3, stride),
    "dil_conv_3x3": partial(_dilated, 3),
    "dil_conv_5x5": partial(_dilated, 5),
    "sep_conv_3x3": partial(_separable, 3),
    "sep_conv_5x5": partial(_separable, 5),
}
"""Name → operator of channels and stride, as in the paper's code."""


class Inputs(nn.Module):
    """Brings a cell's two inputs to its width, and the first to the size of the second."""

    def __init__(self, channels: tuple[int, int], width: int, *, after_reduction: bool) -> None:
        super().__init__()
        first, second = channels
        self.first = FactorizedReduce(first, width) if after_reduction else _resize(first, width)
        self.second = _resize(second, width)

    def forward(self, inputs: list[Tensor]) -> list[Tensor]:
        return [self.first(inputs[0]), self.second(inputs[1])]


def _resize(channels: int, width: int) -> nn.Module:
    return nn.Sequential(nn.ReLU(), nn.Conv2d(channels, width, 1, bias=False), BatchNorm(width))


class CellSpace(RebuiltSpace):
    """``stem``, ``cell1`` … ``cellN``, and the mean over places; reductions double the width."""

    def __init__(self, in_channels: int) -> None:
        super().__init__()
        self.depth = frozen(self.add_mutable(choice("depth", [4, 2, 3, 5])), searching=5)
        nodes = frozen(self.add_mutable(choice("nodes", [4, 2, 3])), searching=4)
        width = frozen(self.add_mutable(choice("width", [16, 8, 24, 32])), searching=16)
        stride = frozen(self.add_mutable(choice("stem_stride", [1, 2])), searching=1)
        channels = (STEM_FACTOR * width, STEM_FACTOR * width)
        stem = nn.Conv2d(in_channels, channels[0], 3, stride, 1, bias=False)
        self.stem = nn.Sequential(stem, BatchNorm(channels[0]))
        for index in range(1, self.depth + 1):
            reduces = index % 2 == 0
            width = 2 * width if reduces else width
            inputs = Inputs(channels, width, after_reduction=index > 1 and not reduces)
            self.add_module(f"cell{index}", _cell(inputs, nodes, width, reduces=reduces))
            channels = (channels[1], nodes * width)

    def forward(self, x: Tensor) -> Tensor:
        before = last = self.stem(x)
        for index in range(1, self.depth + 1):
            before, last = last, getattr(self, f"cell{index}")([before, last])
        return last.mean((2, 3))  # type: ignore[no-any-return]


def _cell(inputs: Inputs, nodes: int, width: int, *, reduces: bool) -> Cell:
    label = "reduce" if reduces else "normal"

    def operator(name: str, node: int, edge: int, chosen: int | None) -> nn.Module:
        """NNI has all candidates made before it takes one, and knows the input of a sample only."""
        if passed_over(f"{label}/op_{node}_{edge}", name):
            return nn.Identity()
        strided = reduces and (chosen is None or chosen < 2)
        return OPERATORS[name](width, 2 if strided else 1)

    return Cell(
        {name: partial(operator, name) for name in OPERATORS},
        num_nodes=nodes,
        num_ops_per_node=2,
        num_predecessors=2,
        preprocessor=inputs,
        label=label,
    )


class CellBackbones(NNISpace):
    """Images [C, H, W]; cells of one kind are alike."""

    summary: ClassVar[str] = "DARTS's cells (2–5 cells of 2–4 nodes, width 8–32)"
    input_rank: ClassVar[int] = 3

    def model_space(self, in_shape: Shape) -> CellSpace:
        return CellSpace(in_shape[0])

    def choices(self, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
        """Operators come before the inputs, which don't matter to one that is ``none``."""
        options = super().choices(in_shape)
        first = [label for label in options if re.search(r"/op_\d_0$", label)]
        options |= {label: tuple(o for o in options[label] if o != NONE) for label in first}
        return dict(sorted(options.items(), key=lambda item: _turn(item[0])))

    def condition(self, label: str) -> Condition | None:
        edge = EDGE.fullmatch(label)
        if edge is None:
            return None
        cell, kind, node, position = edge.groups()
        if kind == "input" and position == "1":
            operator = f"{cell}/op_{node}_{position}"
            return Condition(operator, lambda option: option != NONE, f"{operator} ≠ {NONE}")
        return Condition.at_least("nodes", int(node) - 1)

    def nni_sample(self, sample: Sample) -> dict[str, Any]:
        """Inputs as the lists of one that NNI takes, and some input where there is none."""
        unread = {label.replace("/op_", "/input_"): 0 for label in sample if sample[label] == NONE}
        return {k: [v] if "/input_" in k else v for k, v in {**unread, **sample}.items()}

    def default(self) -> dict[str, Option]:
        sample: dict[str, Option] = {"depth": 4, "nodes": 4, "stem_stride": 1, "width": 16}
        for cell, genotype in DARTS_V2.items():
            for index, (name, source) in enumerate(list(pairwise(genotype.split()))[::2]):
                node, edge = divmod(index, 2)
                sample[f"{cell}/op_{node + 2}_{edge}"] = name
                sample[f"{cell}/input_{node + 2}_{edge}"] = int(source)
        return sample


def _turn(label: str) -> tuple[str, ...]:
    """Sorts labels of edges behind the others, by cell, node and edge."""
    edge = EDGE.fullmatch(label)
    if edge is None:
        return ("", label)
    cell, kind, node, position = edge.groups()
    return (cell, node, position, "1" if kind == "input" else "0")
