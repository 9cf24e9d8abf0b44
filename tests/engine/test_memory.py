"""The memory that adaptation takes, against sizes counted by hand."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from autometa.engine.memory import adaptation_bytes
from autometa.episodes.task import Task

NUMBERS = 1000
BYTES = 4 * NUMBERS


@dataclass
class Steps:
    """In place of a learner: what it does with a task's queries."""

    steps: Any

    def query_loss(self, params: dict[str, Tensor], task: Task) -> Tensor:
        found: Tensor = self.steps(params["weight"], task.query_x)
        return found


def chain(length: int) -> Any:
    def steps(weight: Tensor, x: Tensor) -> Tensor:
        for _ in range(length):
            x = torch.sin(x)
        return x

    return steps


def views(weight: Tensor, x: Tensor) -> Tensor:
    return x.view(10, -1).T[3:].sin_()


def gradient(length: int) -> Any:
    """All but the last of a chain are kept until the gradient has been computed."""

    def steps(weight: Tensor, x: Tensor) -> Tensor:
        return torch.func.grad(lambda w: chain(length)(w, w).sum())(weight)

    return steps


def counted(steps: Any) -> int:
    x = torch.randn(NUMBERS)
    task = Task(x, x, x, x, ways=1)
    return adaptation_bytes(Steps(steps), {"weight": torch.randn(NUMBERS)}, task)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("steps", "results"),
    [
        (lambda weight, x: x.view(10, -1), 0),
        (views, 0),
        (chain(1), 1),
        (chain(2), 2),
        (chain(9), 2),
        (lambda weight, x: torch.cat([x, weight]) + 1, 4),
        (lambda weight, x: (x * weight).sum(), 1),
    ],
)
def test_the_most_that_lives_at_once_is_counted(steps: Any, results: int) -> None:
    assert results * BYTES <= counted(steps) <= results * BYTES + 8


def test_what_a_gradient_keeps_is_in_it() -> None:
    assert counted(chain(20)) == 2 * BYTES
    assert counted(gradient(20)) > 20 * BYTES
    assert counted(gradient(20)) == counted(gradient(20)), "counted, not measured"
