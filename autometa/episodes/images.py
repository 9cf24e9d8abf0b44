"""Data sets of images: a uint8 tensor, episodes by :class:`EpisodeSampler`."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

from autometa.errors import DataError, suggestion

from .augment import AUGMENTATIONS
from .dataset import Device, EpisodeShape, Place, check_split
from .sampler import ClassBatches, EpisodeSampler, ImageSplit
from .task import SPLITS

__all__ = ["EpisodeSampler", "ImageDataset", "ImageSplit"]


@dataclass(frozen=True, eq=False)
class ImageDataset:
    """Images of classes in three disjoint splits.

    Args:
        name: The data set's name.
        splits: Train, validation and test.
        padding: What lies outside an image for augmentation: ``"zeros"`` or ``"border"``.

    Raises:
        DataError: A split has no class.
    """

    name: str
    splits: Mapping[str, ImageSplit]
    padding: str = "zeros"
    problem: ClassVar[str] = "classification"

    def __post_init__(self) -> None:
        for split in SPLITS:
            if not self.splits[split].classes:
                raise DataError(f"{self.name}: the {split} split has no class, but needs some")

    @classmethod
    def from_classes(
        cls,
        name: str,
        whole: ImageSplit,
        splits: Mapping[str, Sequence[int]],
        *,
        padding: str = "zeros",
        device: Device = "cpu",
    ) -> ImageDataset:
        """Each split as a list of classes of ``whole``."""
        return cls(name, {s: whole.pick(splits[s]).to(device) for s in SPLITS}, padding)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """[C, H, W]."""
        return tuple(self.splits["train"].images.shape[1:])

    @property
    def train_classes(self) -> int:
        """Classes of the train split."""
        return len(self.splits["train"].classes)

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of pixels, class names, groups and splits."""
        digest = hashlib.sha256()
        for split in SPLITS:
            part = self.splits[split]
            shape = [sum(part.counts), *part.images.shape[1:]]
            head = [split, part.counts, part.classes, part.groups, shape]
            digest.update(json.dumps(head).encode())
            for first, count in zip(part.starts.tolist(), part.counts, strict=True):
                images = part.images[first : first + count]
                digest.update(images.cpu().contiguous().numpy().data)
        return digest.hexdigest()

    def classes(self, split: str) -> Sequence[str]:
        """Names of the split's classes."""
        check_split(split)
        return self.splits[split].classes

    def source(
        self, split: str, shape: EpisodeShape, *, augment: str = "none", device: Place = None
    ) -> EpisodeSampler:
        """Episodes of one split, on ``device`` (by default where the images lie).

        Raises:
            DataError: Too few classes, a class with too few images, no group with enough
                classes, or an unknown split or augmentation.
        """
        check_split(split)
        _check_augment(augment)
        part = self.splits[split]
        _check_shape(f"{self.name}: the {split} split", part, shape)
        part = part if device is None else part.to(device)
        return EpisodeSampler(part, shape, augment=augment, padding=self.padding)

    def batches(self, rows: int, *, augment: str = "none", device: Place = None) -> ClassBatches:
        """Batches of images of all classes of the train split, labelled by class.

        Raises:
            DataError: ``augment`` is unknown.
        """
        _check_augment(augment)
        part = self.splits["train"]
        part = part if device is None else part.to(device)
        return ClassBatches(part, rows, augment=augment, padding=self.padding)

    def summary(self) -> list[dict[str, Any]]:
        """One row a split: split, classes, images, groups, smallest class (its images)."""
        return [
            {
                "split": split,
                "classes": len(self.splits[split].classes),
                "images": sum(self.splits[split].counts),
                "groups": len(set(self.splits[split].groups)),
                "smallest_class": min(self.splits[split].counts),
            }
            for split in SPLITS
        ]


def _check_augment(augment: str) -> None:
    if augment not in AUGMENTATIONS:
        raise DataError(f"augment {augment!r} is unknown: {suggestion(augment, AUGMENTATIONS)}")


def _check_shape(where: str, part: ImageSplit, shape: EpisodeShape) -> None:
    if shape.ways < 2:
        raise DataError(f"ways is {shape.ways}, but to classify takes at least 2")
    if shape.ways > len(part.classes):
        raise DataError(
            f"ways is {shape.ways}, but {where} has {len(part.classes)} classes: "
            "lower ways, or give that split more classes"
        )
    smallest = min(range(len(part.counts)), key=part.counts.__getitem__)
    if part.counts[smallest] < shape.per_class:
        raise DataError(
            f"{where} has the class {part.classes[smallest]!r} with {part.counts[smallest]} "
            f"images, but {shape.shots} shots and {shape.queries} queries take {shape.per_class}: "
            "lower shots or queries"
        )
    if shape.within_groups:
        _check_groups(where, part, shape.ways)


def _check_groups(where: str, part: ImageSplit, ways: int) -> None:
    name, size = Counter(part.groups).most_common(1)[0]
    if size < ways:
        raise DataError(
            f"ways is {ways} within one group, but the largest group of {where} is {name!r} with "
            f"{size} classes: lower ways, or switch within_groups off"
        )
