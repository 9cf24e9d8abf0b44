"""A second-order MAML meta-iteration of any size, and what it takes to time it and its parts."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import linear_regression, median
from typing import Any

import torch
from torch import Tensor

from autometa.backbones.conv4 import conv4
from autometa.engine import TrainState, choose, meta_gradient, meta_train
from autometa.engine.split import SparingGradient
from autometa.episodes.task import Task
from autometa.learners.base import Encoder, Params
from autometa.learners.maml import MAML, MAMLHyper

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
IMAGE = (1, 28, 28)
SHOTS, QUERIES = 5, 5
SETTING = f"{SHOTS} shots, {QUERIES} queries a class, 28×28×1"
ROUNDS = 5 if DEVICE == "cpu" else 3


@dataclass(frozen=True)
class Cell:
    """A meta-iteration: inner steps, tasks, ways, width of the Conv4."""

    steps: int = 4
    tasks: int = 4
    ways: int = 5
    width: int = 32

    @property
    def learner(self) -> MAML:
        with torch.device("meta"):
            network = conv4(IMAGE[0], self.width)
        features = self.width * (IMAGE[1] // 16) ** 2
        hyper = MAMLHyper(inner_steps=self.steps, meta_batch=self.tasks)
        return MAML(Encoder(network, features), hyper)

    @property
    def batch(self) -> Task:
        """Noise: it takes as long as anything."""
        generator = torch.Generator().manual_seed(0)

        def half(per_class: int) -> tuple[Tensor, Tensor]:
            x = torch.rand(self.tasks, self.ways * per_class, *IMAGE, generator=generator)
            y = torch.arange(self.ways).repeat(self.tasks, per_class)
            return x.to(DEVICE), y.to(DEVICE)

        return Task(*half(SHOTS), *half(QUERIES), ways=self.ways)

    @property
    def params(self) -> Params:
        drawn = self.learner.init(self.ways, torch.Generator().manual_seed(0))
        return {name: value.to(DEVICE) for name, value in drawn.items()}


@dataclass(frozen=True)
class Same:
    """Always the same tasks, so that only the iteration is timed."""

    batch: Task

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        return self.batch


def step_of(cell: Cell) -> Callable[[], float]:
    """A meta-iteration by the engine's own loop."""
    learner = cell.learner
    state = TrainState.start(learner, cell.params, torch.Generator().manual_seed(0))
    strategy = choose(DEVICE, 1, IMAGE)
    source = Same(cell.batch)
    gradient = SparingGradient()
    loop = meta_train(
        learner, state, source=source, iterations=10**6, strategy=strategy, gradient=gradient
    )
    return lambda: float(next(loop).loss)


def seconds(
    steps: dict[Any, Callable[[], float]], untimed: dict[Any, int] | None = None
) -> dict[Any, float]:
    """Median time of each, all in turn, after one that isn't timed, or as many as are told."""
    times: dict[Any, list[float]] = {key: [] for key in steps}
    for key, step in steps.items():
        for _ in range((untimed or {}).get(key, 1)):
            step()
    for _ in range(ROUNDS):
        for key, step in steps.items():
            start = time.perf_counter()
            step()
            times[key].append(time.perf_counter() - start)
    return {key: median(found) for key, found in times.items()}


def gradient_of(cell: Cell, recompute: bool) -> Callable[[], float]:
    """The meta-gradient alone."""
    learner, params, batch = replace(cell.learner, recompute=recompute), cell.params, cell.batch

    def gradient() -> float:
        strategy = choose(DEVICE, 1, IMAGE)
        return float(meta_gradient(learner, params, batch=batch, strategy=strategy)[1]["loss"])

    return gradient


def slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Of a straight line through the logarithms, by least squares."""
    return linear_regression([math.log(v) for v in x], [math.log(v) for v in y]).slope
