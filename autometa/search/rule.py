"""The rules of ``autometa export --pick``, as text and as choices among trials.

::

    rule     = "best" [ "under" bound { "and" bound } ]
             | "smallest within" number ( "point" | "points" | "%" )
    bound    = number [ "k" | "M" ] measure
    measure  = "parameters" | "macs" | "ms" | "bytes" | "ece"

``best under 50k parameters and 2 ms`` is the best score of those that have less than both;
``smallest within 1 point`` the fewest parameters of those whose accuracy is at most one point below
the best (of a regression: ``within 5 %``, whose error is at most 5 % above the least).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from autometa.errors import ConfigError, StudyError
from autometa.search.study import MAXIMIZE, TrialRow

MEASURES = {
    "parameters": "parameters",
    "macs": "macs",
    "ms": "adaptation",
    "bytes": "memory",
    "ece": "ece",
}
"""A rule's word → the measure of a trial."""

SIZES = {"": 1.0, "k": 1e3, "M": 1e6}
NUMBER = r"(\d+(?:\.\d+)?)"
BOUND = re.compile(rf"{NUMBER} ?([kM]?) ({'|'.join(MEASURES)})")
BEST = re.compile(r"best(?: under (.+))?")
SMALLEST = re.compile(rf"smallest within {NUMBER} ?(points?|%)")


@dataclass(frozen=True)
class Best:
    """The best score of those below all bounds, (bound, measure's word)."""

    bounds: tuple[tuple[float, str], ...] = ()


@dataclass(frozen=True)
class Smallest:
    """The fewest parameters of those within so many points (or per cent) of the best score."""

    within: float
    relative: bool


Rule = Best | Smallest


def parse_rule(text: str) -> Rule:
    """A rule from its text.

    Raises:
        ConfigError: It is none.
    """
    plain = " ".join(text.split())
    if found := BEST.fullmatch(plain):
        parts = found[1].split(" and ") if found[1] else []
        bounds = [BOUND.fullmatch(part) for part in parts]
        if all(bounds):
            return Best(tuple((float(b[1]) * SIZES[b[2]], b[3]) for b in bounds if b))
    if found := SMALLEST.fullmatch(plain):
        return Smallest(float(found[1]), found[2] == "%")
    raise ConfigError(
        f"--pick {text!r} is no rule: write 'best', 'best under 50k parameters' (or macs, ms, "
        "bytes, ece; several joined by 'and') or 'smallest within 1 point'"
    )


def choose(
    rule: Rule, rows: Sequence[TrialRow], worth: Mapping[str, float], direction: str
) -> TrialRow:
    """The trial that a rule picks; of equals the first.

    Args:
        rows: Complete trials, at least one.
        worth: Name → score, as far as it is known.

    Raises:
        ConfigError: The rule's unit isn't the score's.
        StudyError: No trial is below the bounds, or they bound what wasn't measured.
    """
    sign = 1.0 if direction == MAXIMIZE else -1.0
    if isinstance(rule, Best):
        meeting = [row for row in rows if all(_below(row, *bound) for bound in rule.bounds)]
        if not meeting:
            raise StudyError(_nothing(rule, rows))
        return max(meeting, key=lambda row: sign * worth[row.name])
    near = [row for row in rows if sign * worth[row.name] >= _floor(rule, worth, direction)]
    return min(near, key=lambda row: row.measures["parameters"])


def _below(row: TrialRow, bound: float, word: str) -> bool:
    measure = MEASURES[word]
    if measure not in row.measures:
        raise StudyError(
            f"--pick bounds {word}, but this study didn't measure it: "
            f"search with {measure!r} among the objectives"
        )
    return row.measures[measure] < bound


def _nothing(rule: Best, rows: Sequence[TrialRow]) -> str:
    told = " and ".join(
        f"{bound:,.9g} {word} (the least is {min(r.measures[MEASURES[word]] for r in rows):,.9g})"
        for bound, word in rule.bounds
    )
    return f"no complete trial of this study is under {told}: raise the bound"


def _floor(rule: Smallest, worth: Mapping[str, float], direction: str) -> float:
    """The least ``sign · score`` that still counts as near the best."""
    if rule.relative == (direction == MAXIMIZE):
        right = "'smallest within 1 point'" if rule.relative else "'smallest within 5 %'"
        metric = "an accuracy has points" if rule.relative else "an error has per cent"
        raise ConfigError(f"--pick: {metric}, so write {right}")
    if direction == MAXIMIZE:
        return max(worth.values()) - rule.within / 100 - 1e-12
    return -min(worth.values()) * (1 + rule.within / 100) - 1e-12
