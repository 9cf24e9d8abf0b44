"""What a running search tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from autometa.config import StudyConfig

if TYPE_CHECKING:
    from autometa.search.study import TrialRow


@dataclass(frozen=True)
class Links:
    """Ray's dashboard, and a link that opens it with its token and is as secret as that."""

    dashboard: str | None = None
    login: str | None = None


@dataclass(frozen=True)
class SearchStarted:
    """A search begins, goes on, or is joined by one who watches it.

    Attributes:
        ended: Trials that count, of earlier runs of the study.
        links: Where Ray's dashboard is.
        known: Trials that no event will tell of.
        running_s: Since its process began, for who joins it later.
        spent_s: Of the time budget, by earlier runs.
    """

    config: StudyConfig
    direction: str
    ended: int
    links: Links = Links()
    known: tuple[TrialRow, ...] = ()
    running_s: float = 0.0
    spent_s: float = 0.0


@dataclass(frozen=True)
class TrialStarted:
    number: int
    name: str
    learner: str
    backbone: str


@dataclass(frozen=True)
class TrialReported:
    number: int
    iteration: int
    score: float
    ci95: float


@dataclass(frozen=True)
class TrialEnded:
    """``end`` is one of study.py's ends; ``score`` is the last one; it was ``ago_s`` ago."""

    number: int
    name: str
    end: str
    reason: str
    iteration: int
    score: float | None
    ci95: float | None
    seconds: float
    ago_s: float = 0.0


@dataclass(frozen=True)
class Phase:
    """A step before or after the trials: ``total`` pieces of work, ``done`` of them finished."""

    title: str
    done: int
    total: int
    detail: str = ""


Event = SearchStarted | TrialStarted | TrialReported | TrialEnded | Phase


class Observer(Protocol):
    def __call__(self, event: Event) -> None: ...


def together(*observers: Observer) -> Observer:
    """Several observers as one."""

    def tell(event: Event) -> None:
        for observer in observers:
            observer(event)

    return tell


def ignore(event: Event) -> None:
    """The observer that watches nothing."""


class Interrupted(Exception):  # noqa: N818 - it is an end, not an error
    """The search was stopped before its budget was spent; it can be resumed."""
