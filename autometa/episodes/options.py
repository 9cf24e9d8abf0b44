"""Options of data sets: dataclass fields that carry their meaning and limits, and their check."""

from __future__ import annotations

from dataclasses import MISSING, field, fields
from typing import Any, Literal, get_args, get_origin, get_type_hints

from autometa.errors import DataError, nearest

_KINDS: dict[Any, tuple[Any, str]] = {
    int: (int, "a whole number"),
    float: ((int, float), "a number"),
    str: (str, "text"),
}


def option(
    meaning: str, default: Any = MISSING, *, low: float | None = None, high: float | None = None
) -> Any:
    """A field with its meaning and, for numbers, its limits; required if it has no default."""
    metadata = {"meaning": meaning, "low": low, "high": high}
    return (
        field(metadata=metadata)
        if default is MISSING
        else field(default=default, metadata=metadata)
    )


def check(options: Any) -> None:
    """What every options class calls in ``__post_init__``.

    Raises:
        DataError: A value has the wrong type, isn't among the choices, or is out of range.
    """
    hints = get_type_hints(type(options))
    for each in fields(options):
        rule = _broken_rule(getattr(options, each.name), hints[each.name], **each.metadata)
        if rule:
            raise DataError(f"{each.name} is {getattr(options, each.name)!r}, but must be {rule}")


def _broken_rule(
    value: Any, hint: Any, *, low: float | None, high: float | None, meaning: str
) -> str | None:
    if get_origin(hint) is Literal and value not in get_args(hint):
        near = nearest(str(value), map(str, get_args(hint)))
        hinted = f" (did you mean {near!r}?)" if near else ""
        return f"one of {', '.join(map(repr, get_args(hint)))}{hinted}"
    if hint in _KINDS and (not isinstance(value, _KINDS[hint][0]) or isinstance(value, bool)):
        return f"{_KINDS[hint][1]} ({meaning})"
    if low is not None and value is not None and value < low:
        return f"at least {low}"
    if high is not None and value is not None and value > high:
        return f"at most {high}"
    return None
