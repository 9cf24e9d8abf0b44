"""The winner's configuration as text: YAML, JSON or TOML."""

from __future__ import annotations

import json
from typing import Any

import tomli_w
import yaml

from autometa.errors import ConfigError, suggestion

FORMATS = ("json", "toml", "yaml")


def render(values: dict[str, Any], form: str) -> str:
    """Nested plain values as text that ends with a line break.

    TOML has no null, so fields that are None are left out there.

    Raises:
        ConfigError: The format is unknown.
    """
    if form == "json":
        return json.dumps(values, indent=2, ensure_ascii=False) + "\n"
    if form == "yaml":
        return yaml.safe_dump(values, sort_keys=False, allow_unicode=True)
    if form == "toml":
        return tomli_w.dumps(_without_none(values))
    raise _unknown(form)


def check_format(form: str) -> None:
    """Refuse what :func:`render` can't write.

    Raises:
        ConfigError: The format is unknown.
    """
    if form not in FORMATS:
        raise _unknown(form)


def _unknown(form: str) -> ConfigError:
    return ConfigError(f"format {form!r} is unknown: {suggestion(form, FORMATS)}")


def _without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_none(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_none(v) for v in value]
    return value
