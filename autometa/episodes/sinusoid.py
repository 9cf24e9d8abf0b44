"""Sinusoids, the regression family of MAML.

C. Finn, P. Abbeel, S. Levine: "Model-Agnostic Meta-Learning for Fast Adaptation of Deep
Networks", ICML 2017, section 5.1, https://arxiv.org/abs/1703.03400

A task is one curve y = A sin(x − φ), given at K points: A is uniform in [0.1, 5], φ in [0, π],
x in [−5, 5]. The paper says "amplitude and phase of the sinusoid are varied"; that the phase is
subtracted is from the authors' code. All three splits are the same distribution, as there.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from autometa.errors import DataError

from .dataset import Device, EpisodeShape, Place, check_split
from .options import check, option
from .task import SPLITS, Task


@dataclass(frozen=True)
class Options:
    """Ranges of the curves; the defaults are the paper's."""

    amplitude_low: float = option("smallest amplitude", 0.1, low=0)
    amplitude_high: float = option("largest amplitude", 5.0, low=0)
    phase_high: float = option("largest phase, in radians; the smallest is 0", math.pi, low=0)
    x_limit: float = option("inputs lie within ± this", 5.0, low=0)

    def __post_init__(self) -> None:
        check(self)
        if self.amplitude_low > self.amplitude_high:
            raise DataError(
                f"amplitude_low is {self.amplitude_low}, but must be at most amplitude_high, "
                f"which is {self.amplitude_high}"
            )

    def load(self, *, device: Device = "cpu") -> SinusoidDataset:
        """The data set; tasks are made on ``device``."""
        return SinusoidDataset(self, device)


@dataclass(frozen=True)
class SinusoidDataset:
    """Curves in place of classes; an input is one number, a target one number."""

    options: Options
    device: Device = "cpu"

    name: ClassVar[str] = "sinusoid"
    problem: ClassVar[str] = "regression"
    input_shape: ClassVar[tuple[int, ...]] = (1,)
    train_classes: ClassVar[int] = 1

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the ranges."""
        return hashlib.sha256(repr(self.options).encode()).hexdigest()

    def classes(self, split: str) -> Sequence[str]:
        """None: a task is a curve."""
        check_split(split)
        return ()

    def source(
        self, split: str, shape: EpisodeShape, *, augment: str = "none", device: Place = None
    ) -> SinusoidSource:
        """Curves, the same for every split.

        Raises:
            DataError: ``ways`` isn't 1, or augmentation or groups are asked for.
        """
        check_split(split)
        if shape.ways != 1:
            raise DataError(f"ways is {shape.ways}, but a sinusoid has 1 output")
        if shape.within_groups:
            raise DataError("within_groups is on, but sinusoids have no groups: switch it off")
        if augment != "none":
            raise DataError(f"augment is {augment!r}, but sinusoids have none: set it to 'none'")
        return SinusoidSource(self.options, shape, device or self.device)

    def batches(self, rows: int, *, augment: str = "none", device: Place = None) -> SinusoidSource:
        """Refused: a curve belongs to no class.

        Raises:
            DataError: Always.
        """
        raise DataError("sinusoids have no classes to train on: choose a learner of episodes")

    def summary(self) -> list[dict[str, Any]]:
        """One row a split: split, amplitude, phase, x (their ranges)."""
        o = self.options
        ranges = {
            "amplitude": f"{o.amplitude_low:g} … {o.amplitude_high:g}",
            "phase": f"0 … {o.phase_high:.4g}",
            "x": f"{-o.x_limit:g} … {o.x_limit:g}",
        }
        return [{"split": split, **ranges} for split in SPLITS]


@dataclass(frozen=True)
class SinusoidSource:
    """Random curves, each at K + Q random points."""

    options: Options
    shape: EpisodeShape
    device: Device = "cpu"

    groups_left_out: ClassVar[tuple[str, ...]] = ()

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        """A task batch; ``support_x`` and ``support_y`` [T, K, 1], queries [T, Q, 1]."""
        o = self.options
        amplitude = _uniform((tasks, 1, 1), o.amplitude_low, o.amplitude_high, generator)
        phase = _uniform((tasks, 1, 1), 0.0, o.phase_high, generator)
        x = _uniform((tasks, self.shape.per_class, 1), -o.x_limit, o.x_limit, generator)
        y = amplitude * torch.sin(x - phase)
        x, y, shots = x.to(self.device), y.to(self.device), self.shape.shots
        return Task(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:], ways=1)


def _uniform(shape: tuple[int, ...], low: float, high: float, generator: torch.Generator) -> Tensor:
    return torch.rand(shape, generator=generator) * (high - low) + low
