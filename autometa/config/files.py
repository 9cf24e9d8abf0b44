"""Configurations from YAML files, with values laid over them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from autometa.config.parts import as_mapping
from autometa.config.study import StudyConfig, parse_config
from autometa.errors import ConfigError, suggestion


def load_config(
    space: str | Path, overrides: Iterable[str] = (), *, fields: Mapping[str, Any] | None = None
) -> StudyConfig:
    """The configuration in a YAML file (ours by name), with other values laid over it.

    Args:
        space: The file, or the name of one of ours.
        overrides: ``a.b=c``, where c is YAML.
        fields: ``a.b`` → value, laid over the overrides.

    Raises:
        ConfigError: The file is missing or no YAML mapping, or a field is wrong.
    """
    path = space_file(str(space))
    values = read_yaml(path)
    for assignment in overrides:
        assign(values, assignment)
    for field, value in (fields or {}).items():
        lay(values, field, value)
    return parse_config(values, origin=str(space))


def read_yaml(path: Path) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "it is no UTF-8 text"
        raise ConfigError(f"configuration file {str(path)!r} can't be read: {reason}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{path} is no valid YAML: {_yaml_problem(error)}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} must hold a mapping of fields, but holds {values!r}")
    return values


def _yaml_problem(error: yaml.YAMLError) -> str:
    mark = getattr(error, "problem_mark", None)
    if mark is None:
        return " ".join(str(error).split())
    problem = getattr(error, "problem", None) or "something is wrong"
    return f"{problem} in line {mark.line + 1}, column {mark.column + 1}"


def assign(values: dict[str, Any], assignment: str) -> None:
    """Lay one ``a.b.c=value`` over nested mappings; the value is read as YAML."""
    path, equals, text = assignment.partition("=")
    if not equals or not path.strip():
        raise ConfigError(f"--set {assignment!r} must look like FIELD=VALUE, as in seed=3")
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(f"--set {assignment!r}: {text!r} is no valid YAML value") from None
    lay(values, path.strip(), value)


def lay(values: dict[str, Any], path: str, value: Any) -> None:
    """Set the field at ``a.b.c`` in nested mappings."""
    *parents, last = path.split(".")
    for key in parents:
        below = values.get(key)
        if isinstance(below, list):
            below = as_mapping(below)
        values[key] = below if isinstance(below, dict) else {}
        values = values[key]
    values[last] = value


def space_file(name: str) -> Path:
    """A YAML file by path, or by the name of a search space that we ship.

    Raises:
        ConfigError: It is neither; the message names the nearest of ours.
    """
    path = Path(name)
    if path.is_file() or path.suffix in {".yaml", ".yml"}:
        packaged = shipped_spaces().get(path.stem) if not path.exists() else None
        return packaged if packaged and path.parent == Path("search_spaces") else path
    spaces = shipped_spaces()
    if name not in spaces:
        raise ConfigError(
            f"search space {name!r} is neither a file nor one of ours: {suggestion(name, spaces)}"
        )
    return spaces[name]


def shipped_spaces() -> dict[str, Path]:
    """The search spaces in the wheel (in a source checkout: beside the package)."""
    here = Path(__file__).parents[1]
    for folder in (here / "search_spaces", here.parent / "search_spaces"):
        if folder.is_dir():
            return {path.stem: path for path in sorted(folder.glob("*.yaml"))}
    return {}
