"""A candidate in words: hyper-parameters, learning-rate vector, architecture."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

MOST_RATES = 6


@dataclass(frozen=True)
class RateTable:
    """A learning-rate vector: its steps as rows, its groups as columns.

    A vector of one row serves every step; ``columns`` are group names where they are known.
    """

    name: str
    mode: str
    groups: str
    columns: tuple[str, ...]
    rows: tuple[tuple[float, ...], ...]


def candidate_text(candidate: dict[str, Any]) -> str:
    """One line: learner and its hyper-parameters, backbone and its architecture, size."""
    hyper = ", ".join(f"{name} {value}" for name, value in hyper_texts(candidate).items())
    network = architecture_text(candidate.get("architecture", {}))
    return (
        f"{candidate['learner']} ({hyper}) on {candidate['backbone']} ({network}), "
        f"{candidate['parameters']:,} parameters"
        f"{', from shared weights' if candidate.get('initial') else ''}"
    )


def hyper_texts(candidate: dict[str, Any]) -> dict[str, str]:
    """Hyper-parameter → value, short; one that changed in training with what it was before."""
    earlier = candidate.get("earlier", ())
    return {
        name: value_text(value) + _before([(until, h[name]) for until, h in earlier], value)
        for name, value in candidate.get("hyper", {}).items()
    }


def _before(course: list[tuple[int, Any]], value: Any) -> str:
    """``(0.003 until 100, 0.002 until 200)``; nothing where it was the same."""
    if all(before == value for _, before in course):
        return ""
    return f" ({', '.join(f'{value_text(before)} until {until}' for until, before in course)})"


def value_text(value: Any) -> str:
    """A hyper-parameter's value; numbers to three digits, vectors compactly."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if is_rates(value):
        return _rates_text(value)
    return str(value)


def is_rates(value: Any) -> bool:
    """Whether a hyper-parameter is a learning-rate vector."""
    return isinstance(value, dict) and {"mode", "groups", "values"} <= set(value)


def _rates_text(value: dict[str, Any]) -> str:
    rows = value["values"]
    rates = [rate for row in rows for rate in row]
    how = f"{value['mode']} ({value['groups']})"
    if value["mode"] in ("learned", "refined"):
        how += " from"
    if len(rates) <= MOST_RATES:
        return f"{how} " + " | ".join(" ".join(f"{rate:.3g}" for rate in row) for row in rows)
    shape = f"{len(rows)} steps × {len(rows[0])} groups"
    return f"{how} {shape}, {min(rates):.3g} … {max(rates):.3g}"


def architecture_text(architecture: dict[str, Any]) -> str:
    """Labels of the whole network, then each label of its numbered blocks: ``kernel 3-3-5``."""
    whole, blocks = [], dict[str, list[str]]()
    for label, value in architecture.items():
        block, slash, part = label.partition("/")
        if slash and block[-1].isdigit():
            blocks.setdefault(part, []).append(value_text(value))
        else:
            whole.append(f"{label} {value_text(value)}")
    parts = [
        f"{part} {values[0] if len(set(values)) == 1 else '-'.join(values)}"
        for part, values in blocks.items()
    ]
    return ", ".join([*whole, *parts]) or "nothing to choose"


def rate_tables(candidate: dict[str, Any], params: dict[str, Any]) -> list[RateTable]:
    """The learning-rate vectors of a candidate; ``params`` are its trial's, which name groups."""
    return [
        RateTable(
            name,
            value["mode"],
            value["groups"],
            _columns(f"{candidate['learner']}.{name}", params, len(value["values"][0])),
            tuple(tuple(row) for row in value["values"]),
        )
        for name, value in candidate.get("hyper", {}).items()
        if is_rates(value)
    ]


def _columns(vector: str, params: dict[str, Any], count: int) -> tuple[str, ...]:
    """Group names as the sampled parameters have them: ``maml.inner_lr.scale[conv3]``."""
    pattern = re.compile(re.escape(vector) + r"(?:\[0\]|\.scale|\.group)\[(.+)\]")
    names = tuple(found[1] for found in map(pattern.fullmatch, params) if found)
    if len(names) == count:
        return names
    return ("all",) if count == 1 else tuple(f"group {i + 1}" for i in range(count))
