"""One task as a user's function yields it: four arrays, checked, as tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from autometa.errors import DataError

from .task import Task

PARTS = ("support_x", "support_y", "query_x", "query_y")


def task_of(given: Any, told: str) -> Task:
    """The task that was yielded; ``told`` begins the message where it is none.

    Raises:
        DataError: It isn't four arrays that fit each other.
    """
    if not isinstance(given, Sequence) or len(given) != len(PARTS):
        kind = type(given).__name__
        raise DataError(f"{told} must each be ({', '.join(PARTS)}), but one is a {kind}")
    try:
        sx, sy, qx, qy = (torch.as_tensor(each).detach().cpu() for each in given)
    except (TypeError, ValueError, RuntimeError) as error:
        raise DataError(f"{told} must hold arrays: {error}") from None
    task = Task(_inputs(sx), _targets(sy), _inputs(qx), _targets(qy), _ways(sy))
    if problem := _problem(task):
        raise DataError(f"{told} {problem}")
    return task


def tensors(task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """In the order of :data:`PARTS`."""
    return task.support_x, task.support_y, task.query_x, task.query_y


def same(one: Task, other: Task) -> bool:
    """Whether two tasks are equal to the last number."""
    return all(map(torch.equal, tensors(one), tensors(other)))


def unlike(task: Task, first: Task) -> str | None:
    """How a task's shapes or types differ from the first one's."""
    for name, one, other in zip(PARTS, tensors(task), tensors(first), strict=True):
        if one.shape != other.shape or one.dtype != other.dtype:
            return f"{name} of one is {_described(one)}, and of the first {_described(other)}"
    return None


def _inputs(x: Tensor) -> Tensor:
    """float32; bytes are pixels, so [0, 255] becomes [0, 1]."""
    return x.to(torch.float32) / 255 if x.dtype == torch.uint8 else x.to(torch.float32)


def _targets(y: Tensor) -> Tensor:
    return y.to(torch.float32 if y.is_floating_point() else torch.int64)


def _ways(support_y: Tensor) -> int:
    """Classes of the support set; outputs of a regression."""
    if support_y.is_floating_point():
        return int(support_y.shape[-1]) if support_y.ndim else 0
    return int(support_y.max()) + 1 if support_y.numel() else 0


def _problem(task: Task) -> str | None:
    """What is wrong with a task, as the end of a sentence."""
    pairs = {"support": (task.support_x, task.support_y), "query": (task.query_x, task.query_y)}
    for name, (x, y) in pairs.items():
        if not x.ndim or not y.ndim or len(x) != len(y) or not len(x):
            return (
                f"must have as many targets as inputs, but {name}_x of one is "
                f"{_described(x)} and {name}_y {_described(y)}"
            )
        if y.ndim != (2 if y.is_floating_point() else 1):
            kinds = "whole labels [n] or real targets [n, D]"
            return f"must have {kinds}, but {name}_y of one is {_described(y)}"
        if not x.isfinite().all() or not y.isfinite().all():
            return f"must be finite numbers, but {name}_x or {name}_y of one isn't"
    if task.query_x.shape[1:] != task.support_x.shape[1:] or task.support_x.ndim < 2:
        return (
            "must have inputs [n, …] of one shape, but support_x of one is "
            f"{_described(task.support_x)} and query_x {_described(task.query_x)}"
        )
    return _unknown_labels(task)


def _unknown_labels(task: Task) -> str | None:
    sy, qy = task.support_y, task.query_y
    if sy.dtype != qy.dtype:
        return f"must have targets of one kind, but one has {_described(sy)} and {_described(qy)}"
    if sy.is_floating_point():
        same = sy.shape[1:] == qy.shape[1:]
        return None if same else f"must have targets [n, {task.ways}], but {_described(qy)} came"
    if not 0 <= int(qy.min()) <= int(qy.max()) < task.ways:
        return (
            f"must have query labels of their support set's 0 … {task.ways - 1}, "
            f"but one has {int(qy.min())} … {int(qy.max())}"
        )
    return None


def _described(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')} {list(x.shape)}"
