"""The fastest strategy is found by trying, and one that needs too much memory is passed over."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from autometa.engine.calibrate import fastest
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, START, Moment, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.testing.small import small_encoder, small_tasks

PAUSE_S = 0.02


@dataclass(frozen=True)
class Slow(MAML):
    """Takes a moment for each call: one a task, or one for all of them as one program."""

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        time.sleep(PAUSE_S)
        return super().meta_grad(params, task, moment)


@dataclass(frozen=True)
class Greedy(Slow):
    """Needs more memory than there is as one program."""

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        if torch._C._are_functorch_transforms_active():
            raise torch.OutOfMemoryError("too much")
        return super().meta_grad(params, task, moment)


def found(cls: type[MAML], *strategies: str) -> str:
    learner = cls(small_encoder(CLASSIFICATION), MAMLHyper(inner_steps=1))
    params = learner.init(3, torch.Generator().manual_seed(0))
    batch = small_tasks(CLASSIFICATION, tasks=6)
    params = {name: value.double() for name, value in params.items()}
    moment = Moment(0.0, torch.empty(6, 0))
    return fastest(learner, params, batch=batch, moment=moment, strategies=strategies)


def test_the_strategy_that_waits_least_is_found() -> None:
    assert found(Slow, "loop", "vmap") == "vmap"
    assert found(Slow, "vmap", "loop") == "vmap"


def test_one_that_needs_too_much_memory_is_passed_over() -> None:
    assert found(Greedy, "vmap", "loop") == "loop"
    with pytest.raises(torch.OutOfMemoryError, match="too much"):
        found(Greedy, "vmap")
