"""How long a batch of 32 tasks takes to sample, beside learn2learn's, on all of a machine's cores.

python -m benchmarks.episodes [OUT]

All sample the same images, the embedded glyphs', and give them as floats in [0, 1]. learn2learn has
them in memory, in three ways:

- as its mini-ImageNet benchmark: floats to 255 in an ``OnDeviceDataset``, divided when sampled;
- the same but divided beforehand;
- a list of tensors divided beforehand with plain numbers for labels, which nothing in learn2learn
  makes but is the fastest that it can be given.

Its ``Taskset`` (called ``TaskDataset`` before) has the transforms of that benchmark, and tasks are
split into support and query as its examples do it. Turns of a fifth of a second alternate in one
process; what is told is the median of several, with glibc told to keep its memory, which helps
everyone. Before, tasks of all are checked on numbered images, or it ends with an error. The table
is written to OUT (a Markdown file) as well.
"""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from torch import Tensor

from autometa.episodes import EpisodeShape, load, stream
from autometa.episodes.sampler import EpisodeSampler, ImageSplit
from autometa.episodes.task import Task
from benchmarks import peers
from benchmarks.machine import Table, keep_memory, machine

CORES = torch.get_num_threads()
TASKS = 32
TURNS = 15
TURN_S = 0.2
"""At least: as many batches as take this long, and one."""

SMALL, LARGE = 28, 84

PEERS = {"benchmark": "as its benchmark", "divided": "divided before", "list": "bare list"}
"""Ways in which learn2learn has the images, and what they are called in the table."""

Tensors = tuple[Tensor, Tensor, Tensor, Tensor]
"""Support and labels, queries and labels of a task."""

Sampler = Callable[[], Any]
"""Gives a batch: a list of tasks' tensors, or a ``Task`` of all of them."""


@dataclass(frozen=True)
class Cell:
    """A line of the table."""

    shape: EpisodeShape
    side: int = SMALL

    @property
    def told(self) -> list[str]:
        shape = self.shape
        numbers = [str(number) for number in (shape.ways, shape.shots, shape.queries)]
        return [f"{self.side}×{self.side}×1", *numbers]


CELLS = (
    Cell(EpisodeShape(5, 1, 15)),
    Cell(EpisodeShape(5, 5, 15)),
    Cell(EpisodeShape(20, 1, 15)),
    Cell(EpisodeShape(20, 5, 15)),
    Cell(EpisodeShape(5, 1, 15), LARGE),
)


def ours(part: ImageSplit, shape: EpisodeShape, augment: str = "none") -> Sampler:
    """The sampler of every image data set."""
    sampler, generator = EpisodeSampler(part, shape, augment=augment), stream(0, "benchmark")
    return lambda: sampler.sample(TASKS, generator)


class Pairs(torch.utils.data.Dataset[tuple[Tensor, int]]):
    """(image, class) pairs, made beforehand."""

    def __init__(self, part: ImageSplit, scale: float) -> None:
        self._images = list(part.images[part.rows].float() / scale)
        self._labels = part.labels.tolist()

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        if index >= len(self):
            raise IndexError(index)
        return self._images[index], self._labels[index]

    def __len__(self) -> int:
        return len(self._labels)


def datasets(part: ImageSplit) -> dict[str, Any]:
    """The images as learn2learn may have them."""
    from learn2learn.data import OnDeviceDataset

    return {
        "benchmark": OnDeviceDataset(Pairs(part, 1), transform=lambda x: x / 255.0),
        "divided": OnDeviceDataset(Pairs(part, 255)),
        "list": Pairs(part, 255),
    }


def learn2learn(dataset: Any, shape: EpisodeShape) -> Sampler:
    """As its mini-ImageNet benchmark and its examples do it."""
    from learn2learn import data as peer
    from learn2learn.data import transforms

    random.seed(0)
    images = peer.MetaDataset(dataset)
    tasks = peer.Taskset(
        images,
        task_transforms=[
            transforms.NWays(images, shape.ways),
            transforms.KShots(images, shape.per_class),
            transforms.LoadData(images),
            transforms.RemapLabels(images),
            transforms.ConsecutiveLabels(images),
        ],
    )
    firsts = np.arange(shape.ways * shape.per_class) % shape.per_class < shape.shots
    support, query = torch.from_numpy(firsts), torch.from_numpy(~firsts)

    def sample() -> list[Tensors]:
        drawn = []
        for _ in range(TASKS):
            x, y = tasks.sample()
            drawn.append((x[support], y[support], x[query], y[query]))
        return drawn

    return sample


def samplers(part: ImageSplit, shape: EpisodeShape) -> dict[str, Sampler]:
    """All that give the same kind of tasks."""
    peer = {name: learn2learn(each, shape) for name, each in datasets(part).items()}
    return {"ours": ours(part, shape), **peer}


def numbered(part: ImageSplit) -> ImageSplit:
    """Classes of the same sizes, each image of which is its own number to the base of 256."""
    number = torch.arange(sum(part.counts))
    digits = torch.stack([number // 256**place % 256 for place in range(3)], 1)
    images = digits.to(torch.uint8)[..., None, None].contiguous()
    return ImageSplit(images, part.counts, part.classes, part.groups)


def check(part: ImageSplit, shape: EpisodeShape) -> None:
    """That every sampler gives tasks of this shape.

    Raises:
        SystemExit: A task isn't one.
    """
    split = numbered(part)
    for name, sample in samplers(split, shape).items():
        tasks = tasks_of(sample())
        if len(tasks) != TASKS or not all(is_task(task, split.labels, shape) for task in tasks):
            raise SystemExit(f"{name} gives something else than tasks of {shape}")


def tasks_of(batch: Any) -> list[Tensors]:
    """Task by task."""
    if not isinstance(batch, Task):
        return list(batch)
    return [(t.support_x, t.support_y, t.query_x, t.query_y) for t in batch.unbind()]


def is_task(task: Tensors, classes: Tensor, shape: EpisodeShape) -> bool:
    """Distinct images of N classes, each with a label of its own; K and Q of each."""
    support_x, support_y, query_x, query_y = task
    x, y = torch.cat([support_x, query_x]), torch.cat([support_y, query_y])
    number = ((x * 255).round().long().flatten(1) * 256 ** torch.arange(3)).sum(1)
    pairs = set(zip(classes[number].tolist(), y.tolist(), strict=True))
    return (
        (x.dtype, y.dtype) == (torch.float32, torch.int64)
        and support_y.bincount().tolist() == [shape.shots] * shape.ways
        and query_y.bincount().tolist() == [shape.queries] * shape.ways
        and len(set(number.tolist())) == len(x)
        and [len({pair[side] for pair in pairs}) for side in (0, 1)] == [shape.ways] * 2
        and len(pairs) == shape.ways
    )


def measure(part: ImageSplit, shape: EpisodeShape) -> dict[str, float]:
    """Median seconds of a batch of each, after one that isn't timed."""
    found = samplers(part, shape) | {"one core": ours(part, shape)}
    found["affine"] = ours(part, shape, "affine")
    times: dict[str, list[float]] = {name: [] for name in found}
    for sample in found.values():
        sample()
    for _ in range(TURNS):
        for name, sample in found.items():
            torch.set_num_threads(1 if name == "one core" else CORES)
            times[name].append(seconds(sample))
    return {name: median(each) for name, each in times.items()}


def seconds(sample: Sampler) -> float:
    """Of a batch, over a turn."""
    start, batches = time.perf_counter(), 0
    while (spent := time.perf_counter() - start) < TURN_S or not batches:
        sample()
        batches += 1
    return spent / batches


def main(out: Path | None) -> None:
    columns = "images, ways, shots, queries, ms a batch, on one core, augmented"
    table = Table([*columns.split(", "), *(f"learn2learn, {name}" for name in PEERS.values())])
    for cell in CELLS:
        part = load("glyphs", {"image_size": cell.side}).splits["train"]
        check(part, cell.shape)
        found = measure(part, cell.shape)
        times = [f"{1000 * found[name]:.2f}" for name in ("ours", "one core", "affine")]
        peer = [f"{found[name] / found['ours']:.0f} ×" for name in PEERS]
        table.add([*cell.told, *times, *peer])
    told = (
        f"{TASKS} tasks a batch, {machine()}, {peers.LEARN2LEARN}; how many times as long as ours "
        f"(first column of times) learn2learn takes, median of {TURNS} turns"
    )
    table.close(told, out)


if __name__ == "__main__":
    keep_memory("benchmarks.episodes")
    warnings.simplefilter("ignore")
    peers.install()
    peers.build()
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
