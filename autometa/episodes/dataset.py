"""The contract of a data set: splits of disjoint classes, each a source of episodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import torch

from autometa.errors import DataError, suggestion

from .task import SPLITS, TaskSource

Device = torch.device | str
Place = Device | None
"""Of tasks; None is where the data lie."""


@dataclass(frozen=True)
class EpisodeShape:
    """What one episode looks like.

    Args:
        ways: N, the classes of an episode (regression: the outputs).
        shots: K, support examples a class.
        queries: Q, query examples a class.
        within_groups: All classes of an episode come from one group (alphabet, script, …).

    Raises:
        DataError: A number is below 1.
    """

    ways: int
    shots: int
    queries: int
    within_groups: bool = False

    def __post_init__(self) -> None:
        for field in fields(self)[:3]:
            value = getattr(self, field.name)
            if value < 1:
                raise DataError(f"{field.name} is {value}, but an episode needs at least 1")

    @property
    def per_class(self) -> int:
        """K + Q: the distinct examples that an episode takes of each class."""
        return self.shots + self.queries


class Dataset(Protocol):
    """A family of tasks in three splits: train, validation and test."""

    @property
    def name(self) -> str: ...
    @property
    def problem(self) -> str:
        """``"classification"`` or ``"regression"``."""
        ...

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input: [C, H, W] of an image, (1,) of a number."""
        ...

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what the data are: two data sets with the same one give the same tasks."""
        ...

    @property
    def train_classes(self) -> int:
        """Classes of the train split: no meta-training episode can have more ways."""
        ...

    def classes(self, split: str) -> Sequence[str]:
        """Names of the split's classes; none in regression."""
        ...

    def source(
        self, split: str, shape: EpisodeShape, *, augment: str = "none", device: Place = None
    ) -> TaskSource:
        """The tasks of one split, on ``device`` (by default where the data lie).

        Raises:
            DataError: The split can't give episodes of this shape, or ``augment`` is unknown.
        """
        ...

    def batches(self, rows: int, *, augment: str = "none", device: Place = None) -> TaskSource:
        """Batches of all meta-training classes at once, for supervised pretraining.

        Each is a task without a support set, whose ``rows`` queries are labelled by the number of
        their class in the train split.

        Raises:
            DataError: The data have no classes, or ``augment`` is unknown.
        """
        ...

    def summary(self) -> list[dict[str, Any]]:
        """One row a split, for tables."""
        ...


def check_split(split: str) -> None:
    """Raise a DataError unless ``split`` is train, validation or test."""
    if split not in SPLITS:
        raise DataError(f"split {split!r} is unknown: {suggestion(split, SPLITS)}")
