"""Tasks that a function of the user's yields, as a data set.

    def tasks(split, generator):                 # "train", "validation" or "test"
        while True:
            yield support_x, support_y, query_x, query_y

Each task is four arrays or tensors, drawn by the generator alone. Labels are whole numbers 0 … N−1
and each class has K support examples; real targets [n, D] make a regression. All tasks have the
same ways, shots, queries and shape of inputs: the first one says which.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from autometa.errors import DataError

from .augment import AUGMENTATIONS
from .dataset import Device, EpisodeShape, Place, check_split
from .task import SPLITS, Task, stream
from .yielded import same, task_of, tensors, unlike

TaskFunction = Callable[[str, torch.Generator], Iterable[Any]]
"""(split, generator) → tasks, each of them (support_x, support_y, query_x, query_y)."""
LOOKS = 3


def options_of(name: str, function: TaskFunction) -> type[Any]:
    """The member of :data:`autometa.episodes.DATASETS` that a function makes; it has no options."""

    @dataclass(frozen=True)
    class Options:
        def load(self, *, device: Device = "cpu") -> FunctionDataset:
            return FunctionDataset(name, function, device)

    return Options


@dataclass(frozen=True)
class FunctionDataset:
    """The tasks of a function.

    Of the test split, the first task alone is looked at before meta-test: whether it is one.
    """

    name: str
    function: TaskFunction
    device: Device = "cpu"

    @cached_property
    def examples(self) -> dict[str, Task]:
        """Split → its first task.

        Raises:
            DataError: The function yields no tasks, unlike ones, or not by its generator alone.
        """
        return {split: self._example(split) for split in SPLITS}

    def _example(self, split: str) -> Task:
        generator, again = stream(0, "first tasks"), stream(0, "first tasks")
        first, *others = (self.draw(split, 1, generator)[0] for _ in range(LOOKS))
        rule = f"{self.told(split)} must be drawn by its generator: "
        if not same(first, self.draw(split, 1, again)[0]):
            raise DataError(f"{rule}two equal generators gave two different tasks")
        if all(same(first, other) for other in others):
            raise DataError(f"{rule}the same task came {LOOKS} times while it moved on")
        return first

    @cached_property
    def first(self) -> Task:
        """The first training task, which all others are like."""
        return self.examples["train"]

    @property
    def problem(self) -> str:
        """Regression where targets are real numbers."""
        return "regression" if self.first.support_y.is_floating_point() else "classification"

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return tuple(self.first.support_x.shape[1:])

    @cached_property
    def shape(self) -> EpisodeShape:
        """What all tasks look like; of a regression, shots and queries are those of the task."""
        ways, examples = self.first.ways, len(self.first.support_y)
        groups = 1 if self.problem == "regression" else ways
        shots, queries = examples // groups, len(self.first.query_y) // groups
        return EpisodeShape(ways, max(shots, 1), max(queries, 1))

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the first task of each split."""
        digest = hashlib.sha256()
        for split in SPLITS:
            for tensor in tensors(self.examples[split]):
                digest.update(repr(tuple(tensor.shape)).encode() + tensor.numpy().tobytes())
        return digest.hexdigest()

    @property
    def train_classes(self) -> int:
        """Those of a task: it can't have more ways."""
        return self.shape.ways

    def classes(self, split: str) -> Sequence[str]:
        """None that tasks have in common."""
        check_split(split)
        return ()

    def source(
        self, split: str, shape: EpisodeShape, *, augment: str = "none", device: Place = None
    ) -> FunctionSource:
        """The tasks of one split.

        Raises:
            DataError: They don't have this shape, or ``augment`` doesn't fit.
        """
        check_split(split)
        for field in fields(EpisodeShape):
            asked, own = getattr(shape, field.name), getattr(self.shape, field.name)
            if asked != own:
                raise DataError(f"{field.name} is {asked}, but tasks of {self.name!r} have {own}")
        possible = tuple(AUGMENTATIONS) if len(self.input_shape) == 3 else ("none",)
        if augment not in possible:
            raise DataError(
                f"augment is {augment!r}, but for inputs of shape {self.input_shape} "
                f"it must be {' or '.join(possible)}"
            )
        source = FunctionSource(self, split, augment, device or self.device)
        source.check(self.examples[split])
        return source

    def batches(self, rows: int, *, augment: str = "none", device: Place = None) -> FunctionSource:
        """Refused: a label means something within its task only.

        Raises:
            DataError: Always.
        """
        raise DataError(
            f"tasks of {self.name!r} have no classes in common to train on: "
            "choose a learner of episodes"
        )

    def summary(self) -> list[dict[str, Any]]:
        """One row a split: split, problem, inputs, ways, shots, queries."""
        told = {"problem": self.problem, "inputs": "×".join(map(str, self.input_shape))}
        sizes = {name: getattr(self.shape, name) for name in ("ways", "shots", "queries")}
        return [{"split": split, **told, **sizes} for split in SPLITS]

    def draw(self, split: str, tasks: int, generator: torch.Generator) -> list[Task]:
        """As many tasks; where the function ends before, it is called again.

        Raises:
            DataError: It yields nothing, or something else than tasks.
        """
        found: list[Task] = []
        while len(found) < tasks:
            given = self.function(split, generator)
            if not isinstance(given, Iterable):
                kind = type(given).__name__
                raise DataError(f"{self.told(split)} must be yielded, but a {kind} was returned")
            before = len(found)
            for each in islice(given, tasks - before):
                found.append(task_of(each, self.told(split)))
            if len(found) == before:
                raise DataError(f"{self.told(split)} are missing: it yielded none")
        return found

    def told(self, split: str) -> str:
        """How messages begin."""
        return f"{split} tasks of the function {self.name!r}"


@dataclass(frozen=True)
class FunctionSource:
    """Tasks of one split, stacked."""

    data: FunctionDataset
    split: str
    augment: str
    device: Device

    groups_left_out: tuple[str, ...] = ()

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """A task batch; all chance is the generator's.

        Raises:
            DataError: A task is unlike the first one.
        """
        found = self.data.draw(self.split, tasks, generator)
        for task in found:
            self.check(task)
        parts = [torch.stack(each) for each in zip(*map(tensors, found), strict=True)]
        sx, sy, qx, qy = (each.to(self.device) for each in parts)
        sx, qx = self._augmented(sx, generator), self._augmented(qx, generator)
        return Task(sx, sy, qx, qy, found[0].ways)

    def check(self, task: Task) -> None:
        """Refuse a task that is unlike the first one, or whose classes aren't equally many.

        Raises:
            DataError: It is.
        """
        told, shape = self.data.told(self.split), self.data.shape
        if difference := unlike(task, self.data.first):
            raise DataError(f"{told} must be alike, but {difference}")
        expected = torch.arange(shape.ways).repeat_interleave(shape.shots)
        labels = task.support_y
        if self.data.problem == "classification" and not labels.sort().values.equal(expected):
            raise DataError(
                f"{told} must have as many support examples of each class, from 0 on, "
                f"but the labels of one are {labels.tolist()}"
            )

    def _augmented(self, x: Tensor, generator: torch.Generator) -> Tensor:
        if self.augment == "none":
            return x
        return AUGMENTATIONS[self.augment](x.flatten(0, 1), generator, "zeros").view_as(x)
