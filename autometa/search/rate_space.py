"""Learning-rate vectors as dimensions of a search: few numbers, or one for every entry.

A vector of S steps and G groups has a *form*. With rates on a log scale,

- ``entries``: every entry is a dimension of its own, S · G of them;
- ``product``: base · decay^step · scale[group], G + 2;
- ``low_rank``: base · range^(step[s] · group[g] / 2), S + G + 1: how far the groups are apart may
  differ from step to step. An outer product of one vector each, as in low-rank adaptation.

All stay within the domain. Names don't depend on other values: ``maml.inner_lr[2][conv3]``,
``maml.inner_lr.scale[conv3]``. A vector that is *refined* has the names of one that is *searched*:
its numbers mean the same until the outer loop moves them. One that is *learned* has a single
``maml.inner_lr.init``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from autometa.learners.domains import Choice, Float, Rates
from autometa.learners.rates import RateVector, group_names

LEARNED = "learned"

Numbers = dict[str, Float]


class SuggestFloat(Protocol):
    """What is used of ``optuna.Trial``."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float: ...


@dataclass(frozen=True)
class Form:
    """A way to write a vector.

    Attributes:
        numbers: Domain, steps and groups by name → the domain of each number, by the end of its
            name, in the order in which they are proposed.
        rate: Domain, the numbers, a step and a group → the entry, before it is held in the domain.
    """

    numbers: Callable[[Rates, Sequence[str], Sequence[str]], Numbers]
    rate: Callable[[Rates, Mapping[str, float], int, str], float]


def _any_rate(domain: Rates) -> Float:
    return Float(domain.low, domain.high, log=True)


def _entries(domain: Rates, steps: Sequence[str], groups: Sequence[str]) -> Numbers:
    return {f"[{step}][{group}]": _any_rate(domain) for step in steps for group in groups}


def _entry(domain: Rates, numbers: Mapping[str, float], step: int, group: str) -> float:
    return numbers[f"[{step}][{group}]"]


def _product(domain: Rates, steps: Sequence[str], groups: Sequence[str]) -> Numbers:
    """A single step has no decay, a single group no scale."""
    numbers = {".base": _any_rate(domain)}
    if len(steps) > 1:
        numbers[".decay"] = Float(0.5, 2.0, log=True)
    if len(groups) > 1:
        numbers |= {f".scale[{group}]": Float(0.1, 10.0, log=True) for group in groups}
    return numbers


def _product_rate(domain: Rates, numbers: Mapping[str, float], step: int, group: str) -> float:
    decay, scale = numbers.get(".decay", 1.0), numbers.get(f".scale[{group}]", 1.0)
    return numbers[".base"] * decay**step * scale


def _low_rank(domain: Rates, steps: Sequence[str], groups: Sequence[str]) -> Numbers:
    names = [f".step[{step}]" for step in steps] + [f".group[{group}]" for group in groups]
    return {".base": _any_rate(domain), **dict.fromkeys(names, Float(-1.0, 1.0))}


def _low_rank_rate(domain: Rates, numbers: Mapping[str, float], step: int, group: str) -> float:
    width = domain.high / domain.low
    row, column = numbers[f".step[{step}]"], numbers[f".group[{group}]"]
    factor: float = width ** (row * column / 2)
    return numbers[".base"] * factor


FORMS = {
    "entries": Form(_entries, _entry),
    "product": Form(_product, _product_rate),
    "low_rank": Form(_low_rank, _low_rank_rate),
}


def proposed_rates(
    trial: SuggestFloat,
    name: str,
    domain: Rates,
    *,
    mode: str,
    form: str,
    groups: str,
    steps: int,
    parameters: Sequence[str],
) -> RateVector:
    """A vector every entry of which the search proposes."""
    columns, how = group_names(parameters, groups), FORMS[form]
    numbers = {
        end: trial.suggest_float(f"{name}{end}", each.low, each.high, log=each.log)
        for end, each in how.numbers(domain, [str(s) for s in range(steps)], columns).items()
    }

    def entry(step: int, column: str) -> float:
        return min(max(how.rate(domain, numbers, step, column), domain.low), domain.high)

    rows = (tuple(entry(step, column) for column in columns) for step in range(steps))
    return RateVector(mode, groups, tuple(rows))


def initial_rate(trial: SuggestFloat, name: str, domain: Rates, groups: str) -> RateVector:
    """A learned vector, all entries of which start at one rate that the search proposes."""
    rate = trial.suggest_float(f"{name}.init", domain.low, domain.high, log=True)
    return RateVector(LEARNED, groups, ((rate,),))


def dimensions(form: str, steps: int, groups: int) -> int:
    """How many numbers write a vector."""
    names = [[str(i) for i in range(count)] for count in (steps, groups)]
    return len(FORMS[form].numbers(Rates(1.0, 1.0), *names))


def rate_rows(name: str, domain: Rates) -> Iterator[tuple[str, Float | Choice, str]]:
    """(name, domain, active when) of every dimension that a vector's mode opens, for a table."""
    if LEARNED in domain.modes:
        yield f"{name}.init", _any_rate(domain), f"mode = {LEARNED}"
    modes = " or ".join(mode for mode in domain.modes if mode != LEARNED)
    if not modes:
        return
    yield f"{name}.form", Choice(domain.forms), f"mode = {modes}"
    for form in domain.forms:
        # Two of each, since decay and scales are of several; their names are the same.
        numbers = FORMS[form].numbers(domain, ["step"] * 2, ["group"] * 2)
        for end, each in numbers.items():
            yield f"{name}{end}", each, f"mode = {modes}, form = {form}"
