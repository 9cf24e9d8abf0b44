"""One few-shot task, and how a family of tasks is drawn from."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Task:
    """One episode; a *task batch* is the same with a leading dimension T.

    Shapes: ``support_x`` [N·K, …], ``support_y`` [N·K], ``query_x`` [N·Q, …], ``query_y`` [N·Q].
    Classification: inputs are float32 images [C, H, W] in [0, 1], labels int64 in 0…N−1 (N is
    ``ways``). Regression: inputs [K, D_in] and targets [K, D_out] are float32, ``ways`` is D_out.
    """

    support_x: Tensor
    support_y: Tensor
    query_x: Tensor
    query_y: Tensor
    ways: int

    @classmethod
    def of(cls, tensors: Sequence[Tensor], ways: int) -> Task:
        """The inverse of :attr:`tensors`."""
        support_x, support_y, query_x, query_y = tensors
        return cls(support_x, support_y, query_x, query_y, ways)

    @property
    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """``support_x``, ``support_y``, ``query_x``, ``query_y``: what comes before ``ways``."""
        return self.support_x, self.support_y, self.query_x, self.query_y

    def unbind(self) -> Iterator[Task]:
        """The tasks of a task batch."""
        for tensors in zip(*self.tensors, strict=True):
            yield Task.of(tensors, self.ways)


class TaskSource(Protocol):
    """A distribution over tasks: one split of a data set, with its ways, shots and queries."""

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """A task batch of ``tasks`` tasks; all randomness comes from ``generator`` (CPU)."""
        ...


def stream(seed: int, name: str) -> torch.Generator:
    """A CPU generator of its own for each (seed, name): independent, and the same everywhere."""
    digest = hashlib.sha256(f"{seed}/{name}".encode()).digest()
    return torch.Generator().manual_seed(int.from_bytes(digest[:8], "big") >> 1)
