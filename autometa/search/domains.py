"""Domains in YAML: a number fixes, a list gives choices, ``{low, high, log}`` a range."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from autometa.errors import ConfigError, suggestion
from autometa.learners.base import Hyper
from autometa.learners.domains import Choice, Domain, Float, Int, Rates
from autometa.learners.rates import GROUPS, MODES, RateVector
from autometa.search.rate_space import FORMS

PROPOSED_MODES = tuple(mode for mode in MODES if mode != "fixed")


@dataclass(frozen=True)
class Fixed:
    """No search: the hyper-parameter has this value."""

    value: Any


def override(field: str, domain: Domain, given: Any, default: Any) -> Domain | Fixed:
    """The domain that the user's YAML makes of a learner's own.

    Args:
        field: The full name, for messages: ``"maml.inner_lr"``.
        domain: The learner's domain.
        given: What stands in the YAML.
        default: The hyper-parameter's default; its type is the type that values must have.

    Raises:
        ConfigError: The value has the wrong type, or the domain is impossible.
    """
    if isinstance(domain, Rates):
        return _rates(field, domain, given)
    if isinstance(given, Mapping):
        return _from_mapping(field, domain, given, default)
    if isinstance(given, list):
        return _choice(field, given, domain, default)
    return Fixed(_value(field, given, domain, default))


def check_values(
    field: str, hyper_type: type[Hyper], domains: Mapping[str, Domain | Fixed], given: Iterable[str]
) -> None:
    """Refuse what a learner's record refuses, at the ends of every domain that was given.

    Raises:
        ConfigError: The record can't have a value, with its defaults where nothing is fixed.
    """
    fixed = {name: each.value for name, each in domains.items() if isinstance(each, Fixed)}
    for name in given:
        for value in _ends(domains[name]):
            try:
                hyper_type(**{**fixed, name: value})
            except ValueError as error:
                raise ConfigError(f"{field}.{error}") from None


def _ends(domain: Domain | Fixed) -> tuple[Any, ...]:
    match domain:
        case Fixed(value):
            return (value,)
        case Choice(options):
            return options
        case Int(low, high) | Float(low, high):
            return low, high
        case Rates():
            return ()


def describe(domain: Domain | Fixed) -> str:
    """A domain as a table shows it."""
    match domain:
        case Fixed(value):
            return f"= {value}" if not isinstance(value, RateVector) else f"= {value.values}"
        case Choice(options, others):
            on_request = f" (or {_listed(others)})" if others else ""
            return "{" + _listed(options) + "}" + on_request
        case Int(low, high) | Float(low, high) if low == high:
            return f"= {low:g}"
        case Int(low, high, _, step):
            by = f" step {step}" if step != 1 else ""
            return f"{low} … {high}{by}" + (" (log)" if domain.log else "")
        case Float(low, high, log):
            return f"[{low:g}, {high:g}]" + (" (log)" if log else "")
        case Rates(low, high):
            return f"[{low:g}, {high:g}] (log)"


def _listed(options: tuple[Any, ...]) -> str:
    return ", ".join(str(option) for option in options)


def _from_mapping(
    field: str, domain: Float | Int | Choice, given: Mapping[str, Any], default: Any
) -> Domain:
    if set(given) == {"choices"} and isinstance(given["choices"], list):
        return _choice(field, given["choices"], domain, default)
    known = ("low", "high", "log", "step") if isinstance(domain, Int) else ("low", "high", "log")
    _only(field, given, known)
    if isinstance(domain, Choice):
        options = domain.possible
        raise ConfigError(f"{field} is {dict(given)}, but must be a list of some of {options}")
    numbers = {
        key: _typed(f"{field}.{key}", value, domain, default)
        for key, value in given.items()
        if key != "log"
    }
    if not isinstance(given.get("log", False), bool):
        raise ConfigError(f"{field}.log is {given['log']!r}, but must be true or false")
    changed = replace(domain, **numbers, **({"log": given["log"]} if "log" in given else {}))
    _check_range(field, changed.low, changed.high, changed.log)
    _check_sign(field, changed.low, domain)
    if isinstance(changed, Int) and changed.step < 1:
        raise ConfigError(f"{field}.step is {changed.step}, but must be at least 1")
    return changed


def _check_range(field: str, low: float, high: float, log: bool) -> None:
    if low > high:
        raise ConfigError(f"{field} has low {low:g} above high {high:g}: swap them")
    if log and low <= 0:
        raise ConfigError(f"{field} is searched on a log scale, so low ({low:g}) must be above 0")


def _choice(field: str, given: list[Any], domain: Float | Int | Choice, default: Any) -> Choice:
    if not given:
        raise ConfigError(f"{field} is an empty list, but needs at least one choice")
    return Choice(tuple(_value(field, value, domain, default) for value in given))


def _value(field: str, value: Any, domain: Float | Int | Choice, default: Any) -> Any:
    """The value, if the hyper-parameter can have it."""
    typed = _typed(field, value, domain, default)
    _check_sign(field, typed, domain)
    return typed


def _check_sign(field: str, value: Any, domain: Float | Int | Choice) -> None:
    """Where a learner's own domain is above 0, or not below, so must be whatever replaces it."""
    own = domain.options if isinstance(domain, Choice) else (domain.low,)
    numbers = [each for each in own if isinstance(each, int | float)]
    if len(numbers) < len(own):
        return
    if min(numbers) > 0 and value <= 0:
        raise ConfigError(f"{field} is {value!r}, but must be above 0")
    if min(numbers) >= 0 and value < 0:
        raise ConfigError(f"{field} is {value!r}, but must not be below 0")


def _typed(field: str, value: Any, domain: Domain, default: Any) -> Any:
    """The value, if it has the type of the hyper-parameter (whole numbers serve as reals)."""
    if isinstance(domain, Choice) and isinstance(domain.options[0], bool | str):
        if not any(_same(value, option) for option in domain.possible):
            if isinstance(value, str):
                known = [each for each in domain.possible if isinstance(each, str)]
                raise ConfigError(f"{field} is {value!r}: {suggestion(value, known)}")
            raise ConfigError(f"{field} is {value!r}, but must be one of {domain.possible}")
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if isinstance(default, float):
        if number and math.isfinite(value):
            return float(value)
        raise ConfigError(f"{field} is {value!r}, but must be a finite number")
    if type(value) is not type(default):
        kind = "a whole number" if isinstance(default, int) else type(default).__name__
        raise ConfigError(f"{field} is {value!r}, but must be {kind}")
    return value


def _same(a: Any, b: Any) -> bool:
    return type(a) is type(b) and bool(a == b)


def _rates(field: str, domain: Rates, given: Any) -> Domain | Fixed:
    """A learning-rate vector: a number or rows of numbers fix it, a mapping restricts it."""
    if isinstance(given, int | float) and not isinstance(given, bool):
        given = [[given]]
    if isinstance(given, list):
        return Fixed(_rate_rows(field, given))
    if not isinstance(given, Mapping):
        raise ConfigError(f"{field} is {given!r}, but must be a rate, rows of rates, or a mapping")
    _only(field, given, ("low", "high", "groups", "modes", "forms"))
    groups = _names(f"{field}.groups", given.get("groups", domain.groups), GROUPS)
    modes = _names(f"{field}.modes", given.get("modes", domain.modes), PROPOSED_MODES)
    forms = _names(f"{field}.forms", given.get("forms", domain.forms), tuple(FORMS))
    bounds = {
        key: _typed(f"{field}.{key}", given.get(key, getattr(domain, key)), Float(0, 0), 0.0)
        for key in ("low", "high")
    }
    _check_range(field, bounds["low"], bounds["high"], log=True)
    return replace(domain, groups=groups, modes=modes, forms=forms, **bounds)


def _rate_rows(field: str, rows: list[Any]) -> RateVector:
    try:
        values = tuple(tuple(float(rate) for rate in row) for row in rows)
        rates = RateVector("fixed", "scalar" if len(values[0]) == 1 else "layer", values)
    except (TypeError, ValueError, IndexError):
        raise ConfigError(
            f"{field} is {rows!r}, but fixed rates are one number, or one row of numbers a step"
        ) from None
    for rate in (rate for row in values for rate in row):
        if not 0 <= rate < math.inf:
            raise ConfigError(f"{field} holds {rate:g}, but a rate must be finite and not below 0")
    return rates


def _names(field: str, given: Any, known: tuple[str, ...]) -> tuple[str, ...]:
    names = (given,) if isinstance(given, str) else tuple(given or ())
    if not names:
        raise ConfigError(f"{field} is empty, but needs at least one of {', '.join(known)}")
    for name in names:
        if name not in known:
            raise ConfigError(f"{field} holds {name!r}: {suggestion(str(name), known)}")
    return names


def _only(field: str, given: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for key in given:
        if key not in known:
            raise ConfigError(f"{field}.{key} is unknown: {suggestion(str(key), known)}")
