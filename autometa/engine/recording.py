"""Computations on a GPU that are recorded once and replayed as one CUDA graph.

A meta-iteration of small networks is thousands of short kernels, and launching them from Python
takes many times as long as running them. https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_flatten, tree_map

BEFORE_RECORDING = 2
"""Calls of the same kind that are run as they are, which is what libraries set themselves up by."""
KEPT = 4
"""Recordings, each of which holds on to its memory."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Recording:
    """A graph, the tensors it reads and those it writes."""

    graph: Any
    inputs: list[Tensor]
    outputs: Any

    def replay(self, given: list[Tensor]) -> Any:
        torch._foreach_copy_(self.inputs, given)
        self.graph.replay()
        return self.outputs


class Recorder:
    """Calls functions of tensors, and replays those that come again and again on a GPU.

    What doesn't let itself be recorded, as what waits for the GPU, is called as ever.
    """

    def __init__(self) -> None:
        self._known: dict[Hashable, int | Recording | None] = {}

    def __call__(self, key: Hashable, function: Function, *given: Any) -> Any:
        """``function(*given)``.

        Args:
            key: What the function does, apart from what it is given; None if it can't be recorded.
            given: Tensors, or nested dicts, lists and tuples of them.

        Returns:
            Its result, whose tensors the next call of the same kind may change.
        """
        tensors, structure = tree_flatten(given)
        if key is None or not _recordable(tensors):
            return function(*given)
        kind = (key, structure, tuple((t.shape, t.dtype, t.stride()) for t in tensors))
        found = self._known.pop(kind, 0)
        if isinstance(found, int) and found == BEFORE_RECORDING:
            found = _recording(function, given)
        self._keep(kind, found + 1 if isinstance(found, int) else found)
        if isinstance(found, Recording):
            return found.replay(tensors)
        return function(*given)

    def _keep(self, kind: Hashable, what: int | Recording | None) -> None:
        """As the latest; the one that wasn't called for longest goes."""
        self._known[kind] = what
        if len(self._known) > KEPT:
            del self._known[next(iter(self._known))]


def _recordable(tensors: list[Any]) -> bool:
    if torch._C._are_functorch_transforms_active():
        return False
    return bool(tensors) and all(isinstance(t, Tensor) and t.is_cuda for t in tensors)


def _recording(function: Function, given: Any) -> Recording | None:
    """None where it can't be recorded, or memory doesn't suffice."""
    inputs = tree_map(torch.clone, given)
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a graph has memory of its own
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            outputs = function(*inputs)
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return Recording(graph, tree_flatten(inputs)[0], outputs)
