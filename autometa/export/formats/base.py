"""The contract of an export format: what it would lose, and how it is written into a folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from autometa.config import StudyConfig
from autometa.learners.base import Learner, Params
from autometa.search.folder import StudyFolder
from autometa.trial import TrialSpec, build_learner, load_params


@dataclass(frozen=True)
class Winner:
    """A trained model of a study, and all that is known of it.

    Attributes:
        result: What ``result.json`` holds.
        entry: What it says of this model, or would say of one that was picked.
    """

    folder: StudyFolder
    config: StudyConfig
    result: dict[str, Any]
    entry: dict[str, Any]

    @cached_property
    def spec(self) -> TrialSpec:
        return TrialSpec.from_json(self.entry["spec"])

    @cached_property
    def built(self) -> tuple[Learner[Any], tuple[int, ...]]:
        """The learner, and the shape of an input."""
        return build_learner(self.spec)

    @property
    def learner(self) -> Learner[Any]:
        return self.built[0]

    @property
    def in_shape(self) -> tuple[int, ...]:
        return self.built[1]

    @cached_property
    def params(self) -> Params:
        """The trained meta-parameters."""
        return load_params(self.folder.path / self.entry["checkpoint"])


class Format(ABC):
    """A way to write a winner down. Instances have no state.

    Class attributes:
        summary: A line for the list of formats.
        needs: Packages of the index that what is written is used with, as requirements.
    """

    summary: ClassVar[str]
    needs: ClassVar[tuple[str, ...]] = ()

    def losses(self, winner: Winner) -> list[str]:
        """What of the winner the format can't express, a clause each; nothing is written.

        ``"its inner rates differ from step to step (0.4, 0.1), learn2learn has one"``. An export
        that would lose something is refused unless the user agrees to it.
        """
        return []

    def check(self, winner: Winner) -> None:  # noqa: B027 (most formats take any winner)
        """Refuse a winner that the format has no place for at all, lossy or not.

        Raises:
            BundleError: With what would be right instead.
        """

    @abstractmethod
    def write(self, winner: Winner, into: Path) -> None:
        """Write all files into a folder that exists and is empty."""
