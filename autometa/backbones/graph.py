"""A network as boxes to draw: its layers with shapes and parameters, and who reads whom.

``torch.fx`` traces the forward down to single layers; chains of layers that are read by nobody else
become one box. A forward that depends on its numbers can't be traced: its layers are then listed in
the order in which they run, as one chain.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.fx
from torch import Tensor, nn
from torch.fx.passes.shape_prop import ShapeProp

from autometa.backbones.base import Backbone, Shape

INPUT = "input"
BETWEEN = (nn.Identity, nn.Dropout, nn.Dropout1d, nn.Dropout2d)  # nothing to see of them
NAMES: dict[Any, str] = {
    operator.add: "+",
    torch.add: "+",
    operator.mul: "×",
    operator.getitem: "slice",
}


@dataclass(frozen=True)
class Layer:
    """One operation.

    Attributes:
        name: Its path in the network: ``conv1.norm``; of a function that of who calls it.
        told: What it does, in short: ``conv 3×3, 64``.
        shape: Of its output, without the batch.
        parameters: Number of trainable numbers.
    """

    name: str
    told: str
    shape: Shape
    parameters: int = 0


@dataclass(frozen=True)
class Box:
    """Layers in a row; ``sources`` are the places of the boxes that the first one reads."""

    layers: tuple[Layer, ...]
    sources: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """What the paths of its layers have in common."""
        paths = [layer.name.split(".") for layer in self.layers]
        common = [parts[0] for parts in zip(*paths, strict=False) if len(set(parts)) == 1]
        return ".".join(common)

    @property
    def shape(self) -> Shape:
        return self.layers[-1].shape

    @property
    def parameters(self) -> int:
        return sum(layer.parameters for layer in self.layers)


@dataclass(frozen=True)
class Drawing:
    """The boxes of a network in the order of its forward; the first one is its input.

    ``traced`` is False where who reads whom isn't known.
    """

    boxes: tuple[Box, ...]
    traced: bool = True


def drawing_of(backbone: Backbone) -> Drawing:
    """The boxes of a network."""
    try:
        steps, traced = _traced(backbone), True
    except Exception:  # a forward may do anything to what stands for a tensor while it is traced
        steps, traced = _run(backbone), False
    return Drawing(_boxes(_counted_once(steps)), traced)


@dataclass
class _Step:
    """A layer with the places of the steps that it reads."""

    layer: Layer
    sources: list[int] = field(default_factory=list)


class _Tracer(torch.fx.Tracer):
    """Stops at what has no parts; NNI's choices of an input are no layers."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return _is_leaf(m) and not type(m).__module__.startswith("nni.")


def _is_leaf(module: nn.Module) -> bool:
    return not any(True for _ in module.children())


def _traced(backbone: Backbone) -> list[_Step]:
    graph = _Tracer().trace(backbone.module)
    module = torch.fx.GraphModule(backbone.module, graph)
    with torch.no_grad():
        ShapeProp(module).propagate(torch.empty(1, *backbone.in_shape, device="meta"))
    steps: list[_Step] = []
    place: dict[torch.fx.Node, int] = {}
    for node in graph.nodes:
        sources = [place[each] for each in node.all_input_nodes]
        if node.op == "output":
            break
        if _passes(node, module):
            place[node] = sources[0]
            continue
        place[node] = len(steps)
        steps.append(_Step(_layer(node, module, backbone.in_shape), sources))
    return steps


def _passes(node: torch.fx.Node, module: nn.Module) -> bool:
    """Whether a node's output is its input."""
    called = node.op == "call_module"
    return called and isinstance(module.get_submodule(str(node.target)), BETWEEN)


def _layer(node: torch.fx.Node, module: nn.Module, in_shape: Shape) -> Layer:
    if node.op == "placeholder":
        return Layer(INPUT, INPUT, in_shape)
    name, shape = str(node.target), tuple(node.meta["tensor_meta"].shape)
    if node.op == "get_attr":
        return Layer(name, "parameter", shape, math.prod(shape))
    shape = shape[1:]
    if node.op == "call_module":
        return _of_module(name, module.get_submodule(name), shape)
    callers = list((node.meta.get("nn_module_stack") or {}).values())
    return Layer(str(callers[-1][0]) if callers else "", _function(node.target), shape)


def _function(target: Any) -> str:
    if target in NAMES:
        return NAMES[target]
    return str(getattr(target, "__name__", target)).strip("_").replace("_", " ")


def _of_module(name: str, module: nn.Module, shape: Shape) -> Layer:
    return Layer(name, told(module), shape, sum(p.numel() for p in module.parameters()))


def _run(backbone: Backbone) -> list[_Step]:
    """The layers in the order in which they run."""
    steps = [_Step(Layer(INPUT, INPUT, backbone.in_shape))]

    def hook(name: str) -> Callable[[nn.Module, Any, Any], None]:
        def seen(module: nn.Module, _: Any, output: Any) -> None:
            if isinstance(output, Tensor) and not isinstance(module, BETWEEN):
                shape = tuple(output.shape)[1:]
                steps.append(_Step(_of_module(name, module, shape), [len(steps) - 1]))

        return seen

    leaves = [(n, m) for n, m in backbone.module.named_modules() if _is_leaf(m)]
    handles = [module.register_forward_hook(hook(name)) for name, module in leaves]
    try:
        with torch.no_grad():
            backbone.module(torch.empty(1, *backbone.in_shape, device="meta"))
    finally:
        for handle in handles:
            handle.remove()
    return steps


def _counted_once(steps: list[_Step]) -> list[_Step]:
    """A layer that runs again has no further parameters."""
    known: set[str] = set()
    for step in steps:
        if step.layer.parameters and step.layer.name in known:
            step.layer = replace(step.layer, parameters=0)
        elif step.layer.parameters:
            known.add(step.layer.name)
    return steps


def _boxes(steps: list[_Step]) -> tuple[Box, ...]:
    """Steps of one part of the network that only follow each other become one box."""
    readers = [0] * len(steps)
    for step in steps:
        for source in set(step.sources):
            readers[source] += 1
    rows: list[list[int]] = []
    box_of: dict[int, int] = {}
    for place, step in enumerate(steps):
        before = step.sources[0] if len(set(step.sources)) == 1 else None
        joins = before is not None and readers[before] == 1 and before == rows[box_of[before]][-1]
        if joins and before is not None and _part(steps[before]) == _part(step):
            rows[box_of[before]].append(place)
            box_of[place] = box_of[before]
        else:
            rows.append([place])
            box_of[place] = len(rows) - 1
    return tuple(
        Box(
            tuple(_summed([steps[place].layer for place in row])),
            tuple(dict.fromkeys(box_of[source] for source in steps[row[0]].sources)),
        )
        for row in rows
    )


def _summed(layers: list[Layer]) -> Iterator[Layer]:
    """Tensors that are stacked to be added up are only added up."""
    for layer, following in zip(layers, [*layers[1:], None], strict=True):
        if following is None or (layer.told, following.told) != ("stack", "sum"):
            yield layer


def _part(step: _Step) -> str:
    """The first name in a path: a box stays within a block."""
    return step.layer.name.partition(".")[0]


def told(module: nn.Module) -> str:
    """A layer in a few words."""
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        return _convolution(module)
    if isinstance(module, nn.Linear):
        return f"linear {module.out_features}"
    kind = _words(type(module).__name__)
    size = getattr(module, "kernel_size", None)
    return f"{kind} {_across(size)}" if size is not None else kind


def _convolution(module: nn.Conv1d | nn.Conv2d | nn.Conv3d) -> str:
    deep = module.groups == module.in_channels > 1
    kind = "depthwise" if deep else "conv"
    extras = [f"stride {module.stride[0]}"] if max(module.stride) > 1 else []
    extras += [f"dilation {module.dilation[0]}"] if max(module.dilation) > 1 else []
    extras += [f"{module.groups} groups"] if module.groups > 1 and not deep else []
    return ", ".join([f"{kind} {_across(module.kernel_size)}", str(module.out_channels), *extras])


def _across(size: Any) -> str:
    return "×".join(map(str, size)) if isinstance(size, tuple) else str(size)


def _words(name: str) -> str:
    """``BatchNorm2d`` → ``batch norm``; ``ReLU`` stays one word."""
    return re.sub(r"(?<=[a-z])(?=[A-Z][a-z])", " ", re.sub(r"\dd$", "", name)).lower()
