"""How much memory work takes, such as to adapt to one task and to answer its queries."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from autometa.episodes.task import Task
from autometa.learners.base import Learner, Params


def adaptation_bytes(learner: Learner[Any], params: Params, task: Task) -> int:
    """As :func:`peak_bytes`, beside meta-parameters and the task.

    Args:
        task: One, without a batch dimension.
    """

    def adapt() -> None:
        with torch.no_grad():
            learner.query_loss(params, task)

    return peak_bytes(adapt, [*params.values(), *tensors_of(task)])


def tensors_of(task: Task) -> tuple[Tensor, ...]:
    """All of a task or a batch of them."""
    return task.support_x, task.support_y, task.query_x, task.query_y


def peak_bytes(work: Callable[[], object], given: Iterable[Tensor]) -> int:
    """The most bytes of tensors that live at once in some work, beside those given.

    It is of the operators' results, counted and not measured: the same on every machine, whatever
    else its process does. What an operator needs within itself isn't in it, nor is what other
    threads do.
    """
    living = _Living(given)
    with living:
        work()
    return living.peak


class _Living(TorchDispatchMode):
    """Follows the storages of all results from their making to their end, but for those given."""

    def __init__(self, given: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._given = {tensor.untyped_storage()._cdata for tensor in given}
        self._sizes: dict[int, int] = {}
        self._now, self.peak = 0, 0

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            if isinstance(leaf, Tensor):
                self._follow(leaf.untyped_storage())
        return found

    def _follow(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._given or key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self._now += self._sizes[key]
        self.peak = max(self.peak, self._now)
        weakref.finalize(storage, self._end, key)

    def _end(self, key: int) -> None:
        self._now -= self._sizes.pop(key)
