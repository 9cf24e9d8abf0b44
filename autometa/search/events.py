"""What a running search tells whoever watches it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from autometa.config import StudyConfig


@dataclass(frozen=True)
class Links:
    """Ray's dashboard, and a link that opens it with its token and is as secret as that."""

    dashboard: str | None = None
    login: str | None = None


@dataclass(frozen=True)
class SearchStarted:
    """``ended`` trials of an earlier run are kept."""

    config: StudyConfig
    direction: str
    ended: int
    links: Links = Links()


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
    """``end`` is one of study.py's ends; ``score`` is the last one."""

    number: int
    name: str
    end: str
    reason: str
    iteration: int
    score: float | None
    ci95: float | None
    seconds: float


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
