"""A frozen network as Python source that needs torch alone.

``torch.fx`` traces the network through every container (NNI's included) down to its leaf layers;
each leaf is written by its own ``repr``, which for torch's layers is a constructor call.
"""

from __future__ import annotations

import ast
import builtins
import re
from typing import Any

import torch
import torch.fx
from torch import nn

from autometa.backbones import layers
from autometa.errors import BundleError

INDENT = " " * 8


class _LeafTracer(torch.fx.Tracer):
    """Stops at torch's own layers and at ours, which a bundle carries as ``layers.py``."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return is_our_layer(m) or super().is_leaf_module(m, module_qualified_name)


def is_our_layer(module: nn.Module) -> bool:
    """Whether a module is a leaf of ``autometa.backbones.layers``."""
    ours = type(module).__module__ == layers.__name__
    return ours and not any(True for _ in module.children())


def source_of(network: nn.Module) -> str:
    """The class ``Network`` as source text; parameters keep their names.

    The names ``nn``, ``torch``, ``Tensor`` and our layers must be in scope where it is executed.

    Raises:
        BundleError: The network can't be traced, or a layer can't be written down.
    """
    graph = _traced(network)
    called = {node.target for node in graph.nodes if node.op == "call_module"}
    # In the network's own order, not the forward's: a rate vector's columns follow the parameters.
    leaves = [name for name, _ in network.named_modules() if name in called]
    _check_complete(network, leaves)
    built = _constructions(network, leaves)
    argument, forward = _forward(graph)
    return (
        "class Network(nn.Module):\n"
        '    """The backbone, as the search found it: [B, …] → [B, features]."""\n\n'
        "    def __init__(self) -> None:\n"
        f"{INDENT}super().__init__()\n" + "".join(f"{INDENT}{line}\n" for line in built) + "\n"
        f"    def forward(self, {argument}: Tensor) -> Tensor:\n"
        + "".join(f"{INDENT}{line}\n" for line in forward)
    )


def _traced(network: nn.Module) -> torch.fx.Graph:
    try:
        return _LeafTracer().trace(network)
    except (torch.fx.proxy.TraceError, TypeError, RuntimeError) as error:
        raise BundleError(f"the network's forward can't be traced: {_one_line(error)}") from None


def _check_complete(network: nn.Module, leaves: list[str]) -> None:
    """Every parameter must belong to a leaf, or the text would lose it."""
    for name, _ in network.named_parameters():
        if name.rpartition(".")[0] not in leaves:
            raise BundleError(f"parameter {name!r} belongs to no layer that can be written down")


def _constructions(network: nn.Module, leaves: list[str]) -> list[str]:
    """Statements that build the leaves, and before them the containers they lie in."""
    lines: list[str] = []
    made: set[str] = set()
    for leaf in leaves:
        parts = leaf.split(".")
        for depth in range(1, len(parts)):
            container = ".".join(parts[:depth])
            if container not in made:
                made.add(container)
                lines.append(_assignment(container, "nn.Module()"))
        lines.append(_assignment(leaf, _constructor(network.get_submodule(leaf))))
    return lines


def _assignment(path: str, value: str) -> str:
    """``self.conv1.norm = …``, or ``add_module`` where the name is a number."""
    parent, _, name = path.rpartition(".")
    owner = _attribute(parent)
    if name.isidentifier():
        return f"{owner}.{name} = {value}"
    return f'{owner}.add_module("{name}", {value})'


def _attribute(path: str) -> str:
    """``conv2.conv.0`` → ``self.conv2.conv.get_submodule("0")``."""
    text = "self"
    for part in path.split(".") if path else []:
        text += f".{part}" if part.isidentifier() else f'.get_submodule("{part}")'
    return text


def _constructor(layer: nn.Module) -> str:
    """The call that makes the layer anew, checked by making it."""
    text = repr(layer) if is_our_layer(layer) else f"nn.{layer!r}"
    scope: dict[str, Any] = {"nn": nn, **vars(layers)}
    try:
        with torch.device("meta"):
            again = eval(text, scope)
    except Exception:
        raise BundleError(f"layer {_one_line(layer)} can't be written as Python") from None
    shapes = [{k: v.shape for k, v in each.state_dict().items()} for each in (layer, again)]
    if type(again) is not type(layer) or shapes[0] != shapes[1] or _lost(again, layer):
        raise BundleError(f"layer {_one_line(layer)} isn't the same when written as Python")
    return text


def _lost(again: nn.Module, layer: nn.Module) -> list[str]:
    """Names of the settings that a layer's ``repr`` doesn't tell."""
    names = [name for name in vars(again) if not name.startswith("_") and name != "training"]
    return [name for name in names if vars(again)[name] != vars(layer).get(name)]


def _one_line(told: object) -> str:
    return " ".join(str(told).split())


def _forward(graph: torch.fx.Graph) -> tuple[str, list[str]]:
    """The name of the input, and the graph's statements without fx's bookkeeping."""
    inputs = [str(node.target) for node in graph.nodes if node.op == "placeholder"]
    if len(inputs) != 1:
        raise BundleError(f"the network's forward takes {inputs}, but must take one tensor")
    for node in graph.nodes:
        if node.op == "get_attr":
            raise BundleError(f"tensor {node.target!r} belongs to no layer")
    source = graph.python_code("self").src
    body = source[source.index("def forward(") :].splitlines()[1:]
    lines = [re.sub(r";  .* = None$", "", line.strip()) for line in body]
    _check_scope(lines, inputs[0])
    return inputs[0], [line for line in lines if line]


def _check_scope(lines: list[str], argument: str) -> None:
    """Whatever the statements name must be there where they are executed."""
    names = [node for node in ast.walk(ast.parse("\n".join(lines))) if isinstance(node, ast.Name)]
    made = {name.id for name in names if isinstance(name.ctx, ast.Store)}
    known = made | {"self", "torch", argument, *vars(builtins)}
    for name in names:
        if name.id not in known:
            raise BundleError(f"the network's forward uses {name.id!r}, which no bundle has")


def layers_used(network: nn.Module) -> list[str]:
    """Names of our own layers that the source needs from ``layers.py``."""
    return sorted({type(module).__name__ for module in network.modules() if is_our_layer(module)})
