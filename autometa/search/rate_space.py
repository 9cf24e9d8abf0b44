"""Learning-rate vectors as dimensions of a search: few numbers, or one for every entry.

A searched vector of S steps and G groups has a *form*. With rates on a log scale,

- ``entries``: every entry is a dimension of its own, S · G of them;
- ``product``: base · decay^step · scale[group], G + 2;
- ``low_rank``: base · range^(step[s] · group[g] / 2), S + G + 1: how far the groups are apart may
  differ from step to step. An outer product of one vector each, as in low-rank adaptation.

All stay within the domain. Names don't depend on other values: ``maml.inner_lr[2][conv3]``,
``maml.inner_lr.scale[conv3]``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from autometa.learners.domains import Float, Rates
from autometa.learners.rates import RateVector, group_names

DECAY = 0.5, 2.0
SCALE = 0.1, 10.0

Rows = tuple[tuple[float, ...], ...]


class SuggestFloat(Protocol):
    """What is used of ``optuna.Trial``."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float: ...


def searched_rates(
    trial: SuggestFloat,
    name: str,
    domain: Rates,
    *,
    form: str,
    groups: str,
    steps: int,
    parameters: Sequence[str],
) -> RateVector:
    """A vector every number of which the search owns."""
    columns = group_names(parameters, groups)
    propose = {"entries": _entries, "product": _product, "low_rank": _low_rank}[form]
    return RateVector("searched", groups, propose(trial, name, domain, steps, columns))


def _entries(
    trial: SuggestFloat, name: str, domain: Rates, steps: int, columns: Sequence[str]
) -> Rows:
    def rate(step: int, column: str) -> float:
        entry = f"{name}[{step}][{column}]"
        return trial.suggest_float(entry, domain.low, domain.high, log=True)

    return tuple(tuple(rate(step, column) for column in columns) for step in range(steps))


def _product(
    trial: SuggestFloat, name: str, domain: Rates, steps: int, columns: Sequence[str]
) -> Rows:
    base = trial.suggest_float(f"{name}.base", domain.low, domain.high, log=True)
    decay = trial.suggest_float(f"{name}.decay", *DECAY, log=True) if steps > 1 else 1.0
    scales = [1.0]
    if len(columns) > 1:
        scales = [trial.suggest_float(f"{name}.scale[{c}]", *SCALE, log=True) for c in columns]
    return tuple(
        tuple(_within(domain, base * decay**step * scale) for scale in scales)
        for step in range(steps)
    )


def _low_rank(
    trial: SuggestFloat, name: str, domain: Rates, steps: int, columns: Sequence[str]
) -> Rows:
    base = trial.suggest_float(f"{name}.base", domain.low, domain.high, log=True)
    left = [trial.suggest_float(f"{name}.step[{step}]", -1.0, 1.0) for step in range(steps)]
    right = [trial.suggest_float(f"{name}.group[{column}]", -1.0, 1.0) for column in columns]
    width = domain.high / domain.low
    return tuple(
        tuple(_within(domain, base * width ** (row * column / 2)) for column in right)
        for row in left
    )


def dimensions(form: str, steps: int, groups: int) -> int:
    """How many numbers write a vector; a single group has no scale, a single step no decay."""
    if form == "product":
        return 1 + (steps > 1) + groups * (groups > 1)
    return steps * groups if form == "entries" else 1 + steps + groups


def _within(domain: Rates, rate: float) -> float:
    return min(max(rate, domain.low), domain.high)


def rate_rows(name: str, domain: Rates) -> Iterator[tuple[str, Rates | Float, str]]:
    """(name, domain, form) of every dimension that a searched vector may have, for a table."""
    one = Float(-1.0, 1.0)
    of_form: dict[str, dict[str, Rates | Float]] = {
        "entries": {"[step][group]": domain},
        "product": {
            ".base": domain,
            ".decay": Float(*DECAY, log=True),
            ".scale[group]": Float(*SCALE, log=True),
        },
        "low_rank": {".base": domain, ".step[step]": one, ".group[group]": one},
    }
    for form in domain.forms:
        for suffix, each in of_form[form].items():
            yield f"{name}{suffix}", each, form
