"""Computations on a GPU that are recorded once and replayed as one CUDA graph.

A meta-iteration of small networks is thousands of short kernels, and launching them from Python
takes many times as long as running them. https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import TreeSpec, tree_flatten, tree_leaves, tree_map, tree_unflatten

BEFORE_RECORDING = 2
"""Calls of the same kind that are run as they are, which is what libraries set themselves up by."""
KEPT = 4
"""Recordings, each of which holds on to its memory."""

Function = Callable[..., Any]


@dataclass(frozen=True)
class Recording:
    """A graph, the tensors it reads and those it writes.

    All of these are its own, and every replay writes over what the one before has left there.
    """

    graph: Any
    inputs: list[Tensor]
    outputs: list[Tensor]
    structure: TreeSpec
    """Whose leaves the outputs are."""

    def replay(self, given: list[Tensor]) -> Any:
        """The result for other inputs, as tensors that no replay changes any more."""
        torch._foreach_copy_(self.inputs, given)
        self.graph.replay()
        found = [torch.empty_like(each) for each in self.outputs]
        torch._foreach_copy_(found, self.outputs)
        return tree_unflatten(found, self.structure)


class Recorder:
    """Calls functions of tensors, and replays those that come again and again on a GPU.

    What doesn't let itself be recorded, as what waits for the GPU, is called as ever.
    """

    def __init__(self) -> None:
        # In turn, the latest last. There are few, and comparing takes no hash of a learner and all
        # its hyper-parameters: parts of a kind that are the same object are equal at once.
        self._known: list[tuple[object, int | Recording | None]] = []

    def __call__(self, key: object, function: Function, *given: Any) -> Any:
        """``function(*given)``; the result is the caller's to keep.

        Args:
            key: What the function does, apart from what it is given; None if it can't be recorded.
            given: Tensors, or nested dicts, lists and tuples of them; so is the result.
        """
        tensors, structure = tree_flatten(given)
        if key is None or not _recordable(tensors):
            return function(*given)
        kind = (key, structure, tuple((t.shape, t.dtype, t.stride()) for t in tensors))
        found = self._take(kind)
        if isinstance(found, int) and found == BEFORE_RECORDING:
            found = _recording(function, given)
        self._keep(kind, found + 1 if isinstance(found, int) else found)
        if isinstance(found, Recording):
            return found.replay(tensors)
        return function(*given)

    def _take(self, kind: object) -> int | Recording | None:
        """What is known of a kind, which isn't known any more then; of a new one, no calls."""
        for place in reversed(range(len(self._known))):
            if self._known[place][0] == kind:
                return self._known.pop(place)[1]
        return 0

    def _keep(self, kind: object, what: int | Recording | None) -> None:
        """As the latest; the one that wasn't called for longest goes."""
        self._known.append((kind, what))
        if len(self._known) > KEPT:
            del self._known[0]


def _recordable(tensors: list[Any]) -> bool:
    if torch._C._are_functorch_transforms_active():
        return False
    return bool(tensors) and all(isinstance(t, Tensor) and t.is_cuda for t in tensors)


def _recording(function: Function, given: Any) -> Recording | None:
    """None where it can't be recorded, or memory doesn't suffice."""
    inputs = tree_map(torch.empty_like, given)  # while a graph is recorded nothing is computed
    torch.cuda.synchronize()
    torch.cuda.empty_cache()  # a graph has memory of its own
    graph = torch.cuda.CUDAGraph()
    try:
        with torch.cuda.graph(graph):
            result = function(*inputs)
    except RuntimeError:
        torch.cuda.synchronize()
        return None
    return Recording(graph, tree_leaves(inputs), *tree_flatten(result))
