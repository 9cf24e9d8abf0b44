"""Hyper-parameter records as JSON, for study storages, worker processes and bundles."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, TypeVar

from .base import Hyper
from .rates import RateVector

H = TypeVar("H", bound=Hyper)


def to_json(record: Hyper) -> dict[str, Any]:
    """The record as JSON types, every field included: a rate vector is an object of its own."""
    return {field.name: _plain(getattr(record, field.name)) for field in fields(record)}


def from_json(hyper_type: type[H], data: Mapping[str, Any]) -> H:
    """The inverse of :func:`to_json`; fields that came after a record have their defaults.

    Raises:
        ValueError: Fields are unknown, or a value is impossible.
    """
    known = {field.name: field.default for field in fields(hyper_type)}
    _same_names(hyper_type.__name__, {**known, **data}, known)
    values: dict[str, Any] = {
        name: _rates(name, value) if isinstance(known[name], RateVector) else value
        for name, value in data.items()
    }
    return hyper_type(**values)


def _plain(value: Any) -> Any:
    if not isinstance(value, RateVector):
        return value
    rows = [list(row) for row in value.values]
    return {"mode": value.mode, "groups": value.groups, "values": rows}


def _rates(name: str, data: Any) -> RateVector:
    if not isinstance(data, Mapping):
        raise ValueError(f"{name} is {data!r}, but must hold mode, groups and values")
    _same_names(name, data, [field.name for field in fields(RateVector)])
    rows = tuple(tuple(float(rate) for rate in row) for row in data["values"])
    return RateVector(data["mode"], data["groups"], rows)


def _same_names(whole: str, data: Mapping[str, Any], known: Mapping[str, Any] | list[str]) -> None:
    unknown = [name for name in data if name not in known]
    missing = [name for name in known if name not in data]
    if unknown or missing:
        wrong = {"unknown": unknown, "missing": missing}
        told = "; ".join(f"{kind}: {', '.join(names)}" for kind, names in wrong.items() if names)
        raise ValueError(f"fields of {whole} don't match: {told} (it has {', '.join(known)})")
