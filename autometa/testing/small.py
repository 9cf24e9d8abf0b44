"""Encoders and tasks so small that a contract is checked on them in milliseconds."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from autometa.episodes.task import Task, TaskSource
from autometa.learners.base import REGRESSION, Encoder

WAYS = 3
IMAGE = (1, 8, 8)
TRAIN_CLASSES = 6


class BatchNorm(nn.Module):
    """Batch normalisation of elementary operations, whose second derivatives ``vmap`` gets right.

    Shapes: [B, C, H, W] → the same.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean((0, 2, 3), keepdim=True)
        variance = centred.square().mean((0, 2, 3), keepdim=True)
        scale = self.weight[:, None, None] * torch.rsqrt(variance + 1e-5)
        return centred * scale + self.bias[:, None, None]


def small_encoder(problem: str) -> Encoder:
    """Two layers on the meta device: convolutional for images [1, 8, 8], dense for numbers [1]."""
    with torch.device("meta"):
        if problem == REGRESSION:
            layers = OrderedDict(fc1=_dense(1, 16), fc2=_dense(16, 16))
            return Encoder(nn.Sequential(layers), 16)
        layers = OrderedDict(conv1=_block(1, 6), conv2=_block(6, 6))
        return Encoder(nn.Sequential(OrderedDict(**layers, flatten=nn.Flatten())), 24)


def small_tasks(
    problem: str, *, tasks: int = 3, ways: int = WAYS, shots: int = 2, queries: int = 2
) -> Task:
    """A float64 task batch of noise: images with labels, or numbers with targets [K, ways]."""
    generator = torch.Generator().manual_seed(0)

    def half(per_class: int) -> tuple[Tensor, Tensor]:
        rows = ways * per_class
        if problem == REGRESSION:
            x = torch.randn(tasks, rows, 1, generator=generator, dtype=torch.float64)
            return x, torch.randn(tasks, rows, ways, generator=generator, dtype=torch.float64)
        x = torch.randn(tasks, rows, *IMAGE, generator=generator, dtype=torch.float64)
        return x, torch.arange(ways).repeat(tasks, per_class)

    return Task(*half(shots), *half(queries), ways=ways)


@dataclass(frozen=True)
class EasyFamily:
    """Tasks that a few meta-iterations learn, but an untrained network doesn't.

    Images: six coarse patterns, always the same, in loud noise; three of them make a task.
    Numbers: lines y = a·x + b, a in [1, 3], b in [−1, 1].
    """

    problem: str
    shots: int = 2
    queries: int = 5

    @property
    def ways(self) -> int:
        return 1 if self.problem == REGRESSION else WAYS

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """A float32 task batch."""
        draw = self._lines if self.problem == REGRESSION else self._images
        return draw(tasks, generator)

    def _lines(self, tasks: int, generator: torch.Generator) -> Task:
        slope, offset = 2 * torch.rand(2, tasks, 1, 1, generator=generator) + 1
        x = 2 * torch.rand(tasks, self.shots + self.queries, 1, generator=generator) - 1
        y = slope * x + offset - 2
        cut = self.shots
        return Task(x[:, :cut], y[:, :cut], x[:, cut:], y[:, cut:], ways=1)

    def _images(self, tasks: int, generator: torch.Generator) -> Task:
        classes = torch.rand(tasks, TRAIN_CLASSES, generator=generator).argsort(1)[:, :WAYS]

        def half(per_class: int) -> tuple[Tensor, Tensor]:
            y = torch.arange(WAYS).repeat(tasks, per_class)
            return _noisy_patterns(classes.gather(1, y), generator), y

        return Task(*half(self.shots), *half(self.queries), ways=WAYS)


class EasyClasses:
    """The six patterns of :class:`EasyFamily` as batches of all classes, without support sets."""

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        y = torch.randint(TRAIN_CLASSES, (tasks, 24), generator=generator)
        x = _noisy_patterns(y, generator)
        return Task(x[:, :0], y[:, :0], x, y, ways=TRAIN_CLASSES)


@dataclass(frozen=True)
class InDoubles:
    """The same tasks in float64."""

    source: TaskSource

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        batch = self.source.sample(tasks, generator)
        support_y, query_y = (
            y.double() if y.is_floating_point() else y for y in (batch.support_y, batch.query_y)
        )
        return Task(
            batch.support_x.double(), support_y, batch.query_x.double(), query_y, batch.ways
        )


def _noisy_patterns(classes: Tensor, generator: torch.Generator) -> Tensor:
    coarse = torch.randn(TRAIN_CLASSES, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    shown = coarse.repeat_interleave(4, 2).repeat_interleave(4, 3)[classes]
    return shown + 2 * torch.randn(shown.shape, generator=generator)


def _dense(inputs: int, outputs: int) -> nn.Module:
    return nn.Sequential(nn.Linear(inputs, outputs), nn.Tanh())


def _block(inputs: int, outputs: int) -> nn.Module:
    conv = nn.Conv2d(inputs, outputs, 3, padding=1)
    return nn.Sequential(conv, BatchNorm(outputs), nn.ReLU(), nn.MaxPool2d(2))
