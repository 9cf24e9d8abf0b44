"""Classes with their images in one tensor, and episodes as index operations on it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from .augment import AUGMENTATIONS, Augmentation
from .dataset import Device, EpisodeShape
from .task import Task


@dataclass(frozen=True, eq=False)
class ImageSplit:
    """Some classes and all of their images.

    Args:
        images: uint8 [N, C, H, W]: theirs and perhaps others', for the splits of a data set share
            one tensor, which may be a mapped file that all processes of a machine share.
        counts: Images of each class; they lie beside each other.
        classes: Their names.
        groups: The group (alphabet, script, …) of each class.
        firsts: Index of the first image of each class; by default class follows class.
    """

    images: Tensor
    counts: tuple[int, ...]
    classes: tuple[str, ...]
    groups: tuple[str, ...]
    firsts: tuple[int, ...] | None = None

    @cached_property
    def starts(self) -> Tensor:
        """Index of the first image of each class, int64 [classes]."""
        if self.firsts is not None:
            return torch.tensor(self.firsts, dtype=torch.int64)
        counts = torch.tensor(self.counts, dtype=torch.int64)
        return counts.cumsum(0) - counts

    @cached_property
    def labels(self) -> Tensor:
        """Number of the class of each of :attr:`rows`, int64 [n] on the CPU."""
        counts = torch.tensor(self.counts, dtype=torch.int64)
        return torch.arange(len(counts)).repeat_interleave(counts)

    @cached_property
    def rows(self) -> Tensor:
        """Indices of the split's own images, class after class, int64 [n] on the CPU."""
        counts = torch.tensor(self.counts, dtype=torch.int64)
        shift = self.starts - (counts.cumsum(0) - counts)
        return torch.arange(len(self.labels)) + shift[self.labels]

    def pick(self, indices: Sequence[int]) -> ImageSplit:
        """Only these classes, in this order, of the same images."""
        starts = self.starts.tolist()
        return ImageSplit(
            self.images,
            tuple(self.counts[i] for i in indices),
            tuple(self.classes[i] for i in indices),
            tuple(self.groups[i] for i in indices),
            tuple(starts[i] for i in indices),
        )

    def to(self, device: Device) -> ImageSplit:
        """The same on ``device``, where elsewhere than now without the images of others."""
        if torch.empty(0, device=device).device == self.images.device:
            return self
        own = self.images[self.rows.to(self.images.device)]
        return replace(self, images=own.to(device), firsts=None)


class EpisodeSampler:
    """Episodes of one split, a whole task batch at a time.

    Classes are drawn without replacement and in random order, so a class has no label of its
    own; then K + Q distinct images of each. Indices are drawn on the CPU: the same generator
    gives the same tasks on every device.

    Args:
        split: Classes and images; the images' device is where tasks are made.
        shape: Ways, shots, queries; the split is known to be large enough.
        augment: A name of :data:`autometa.episodes.augment.AUGMENTATIONS`.
        padding: What lies outside an image when it is moved: ``"zeros"`` or ``"border"``.
    """

    def __init__(
        self,
        split: ImageSplit,
        shape: EpisodeShape,
        *,
        augment: str = "none",
        padding: str = "zeros",
    ) -> None:
        self.split = split
        self.shape = shape
        self._augment = AUGMENTATIONS[augment]
        self._padding = padding
        counts = torch.tensor(split.counts, dtype=torch.int64)
        absent = torch.arange(int(counts.max())) >= counts[:, None]
        self._absent = absent if absent.any() else None
        self._most = absent.shape[1]
        labels = torch.arange(shape.ways, device=split.images.device)
        self._support_y = labels.repeat_interleave(shape.shots)
        self._query_y = labels.repeat_interleave(shape.queries)
        names = sorted(set(split.groups))
        members = torch.tensor([[group == name for group in split.groups] for name in names])
        large = members.sum(1) >= shape.ways
        self._members = members[large]
        left_out = [name for name, ok in zip(names, large.tolist(), strict=True) if not ok]
        self.groups_left_out = tuple(left_out) if shape.within_groups else ()

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """A task batch; rows are class-major (label 0 K times, then label 1, …).

        Shapes: ``support_x`` [T, N·K, C, H, W] in [0, 1], ``support_y`` [T, N·K]; queries alike.
        """
        index, shots = self.indices(tasks, generator), self.shape.shots
        return Task(
            self._gather(index[..., :shots], generator),
            self._support_y.repeat(tasks, 1),
            self._gather(index[..., shots:], generator),
            self._query_y.repeat(tasks, 1),
            ways=self.shape.ways,
        )

    def indices(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Rows of ``split.images``, int64 [T, N, K + Q]: the shots first, then the queries."""
        classes = self._draw_classes(tasks, generator)
        keys = torch.rand(*classes.shape, self._most, generator=generator)
        if self._absent is not None:
            keys.masked_fill_(self._absent[classes], -1.0)
        instances = keys.topk(self.shape.per_class, dim=-1).indices
        return self.split.starts[classes][..., None] + instances

    def _draw_classes(self, tasks: int, generator: torch.Generator) -> Tensor:
        """Classes of each task, [T, N]: the order of random keys is a random order."""
        keys = torch.rand(tasks, len(self.split.counts), generator=generator)
        if self.shape.within_groups:
            group = torch.randint(len(self._members), (tasks,), generator=generator)
            keys.masked_fill_(~self._members[group], -1.0)
        return keys.topk(self.shape.ways, dim=-1).indices

    def _gather(self, index: Tensor, generator: torch.Generator) -> Tensor:
        return pictures(self.split.images, index, self._augment, generator, self._padding)


class ClassBatches:
    """Images of all classes of a split, drawn uniformly, with their classes as labels.

    Args:
        split: Classes and images.
        rows: Images of a batch.
        augment: A name of :data:`autometa.episodes.augment.AUGMENTATIONS`.
        padding: As of :class:`EpisodeSampler`.
    """

    groups_left_out: tuple[str, ...] = ()

    def __init__(
        self, split: ImageSplit, rows: int, *, augment: str = "none", padding: str = "zeros"
    ) -> None:
        self.split = split
        self.rows = rows
        self._augment = AUGMENTATIONS[augment]
        self._padding = padding

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """``tasks`` batches: no support set; queries [T, rows, C, H, W] in [0, 1] and labels."""
        images = self.split.images
        chosen = torch.randint(len(self.split.rows), (tasks, self.rows), generator=generator)
        index = self.split.rows[chosen]
        x = pictures(images, index, self._augment, generator, self._padding)
        y = self.split.labels[chosen].to(images.device)
        return Task(x[:, :0], y[:, :0], x, y, ways=len(self.split.classes))


def pictures(
    images: Tensor,
    index: Tensor,
    augment: Augmentation,
    generator: torch.Generator,
    padding: str,
) -> Tensor:
    """The augmented images at ``index`` [T, …] in [0, 1], as [T, n, C, H, W]."""
    flat = images.index_select(0, index.flatten().to(images.device))
    moved = augment(flat.to(torch.float32).div_(255), generator, padding)
    return moved.view(len(index), -1, *moved.shape[1:])
