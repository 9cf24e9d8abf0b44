"""Where a hyper-parameter may lie: the search domains that learners attach to their fields."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Float:
    """A real number in [low, high], uniform or log-uniform."""

    low: float
    high: float
    log: bool = False


@dataclass(frozen=True)
class Int:
    """A whole number in low, low + step, … high (both ends included)."""

    low: int
    high: int
    log: bool = False
    step: int = 1


@dataclass(frozen=True)
class Choice:
    """One of the options, unordered; ``others`` are only proposed where a study asks for them."""

    options: tuple[bool | int | float | str | None, ...]
    others: tuple[bool | int | float | str | None, ...] = ()

    @property
    def possible(self) -> tuple[bool | int | float | str | None, ...]:
        """Every value that a study may ask for."""
        return self.options + self.others


@dataclass(frozen=True)
class Rates:
    """A learning-rate vector: how it is grouped, who owns its numbers, and their range.

    ``steps`` names the hyper-parameter that holds the number of inner steps, ``forms`` in how many
    numbers a proposed vector is written: see :mod:`autometa.search.rate_space`.
    """

    low: float
    high: float
    groups: tuple[str, ...] = ("scalar", "layer", "parameter")
    modes: tuple[str, ...] = ("searched", "learned")
    forms: tuple[str, ...] = ("product",)
    steps: str = "inner_steps"


Domain = Float | Int | Choice | Rates


def hyper(default: Any, domain: Domain, meaning: str, *, batched: bool = True) -> Any:
    """A dataclass field with its default, its search domain and its meaning.

    A domain of a single value isn't searched, unless a study gives the field a range or a list.

    Args:
        batched: Whether trials that differ in this number only can be one program, in which it is
            a tensor. They can't where the code branches by it, or needs a plain number.
    """
    metadata = {"domain": domain, "meaning": meaning, "batched": batched}
    return field(default=default, metadata=metadata)
