"""What the shell offers when the tab key is pressed; nothing heavy is imported for it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

YAML = (".yaml", ".yml")
DEEPEST = 4


def spaces(incomplete: str) -> list[str]:
    """Our search spaces, then YAML files and folders that lead to them."""
    from autometa.config import shipped_spaces

    ours = [name for name in shipped_spaces() if name.startswith(incomplete)]
    return [*ours, *_files(incomplete)]


def _files(incomplete: str) -> Iterator[str]:
    """Names below the folder that was typed so far."""
    typed, slash, start = incomplete.rpartition("/")
    folder = Path(typed or slash or ".").expanduser()
    for path in sorted(folder.glob(f"{start}*") if folder.is_dir() else ()):
        name = f"{typed}{slash}{path.name}"
        if path.suffix in YAML:
            yield name
        elif path.is_dir() and slash:
            yield f"{name}/"


def studies(incomplete: str) -> list[str]:
    """Study folders: those below ``trials``, or below what was typed so far."""
    typed = incomplete.rpartition("/")[0] or "trials"
    found = _studies(Path(typed), DEEPEST)
    return [str(each) for each in found if str(each).startswith(incomplete)]


def _studies(folder: Path, depth: int) -> Iterator[Path]:
    """A study has no other below it."""
    for path in sorted(folder.glob("*/")) if depth and folder.is_dir() else ():
        if (path / "study.yaml").is_file():
            yield path
        elif path.is_dir():
            yield from _studies(path, depth - 1)


def fields(incomplete: str) -> list[str]:
    """Fields of the configuration, ``budget.trials=``."""
    from autometa.config import field_names

    return [f"{name}=" for name in field_names() if name.startswith(incomplete)]


def learners(incomplete: str) -> list[str]:
    from autometa.learners import LEARNERS

    return [name for name in LEARNERS if name.startswith(incomplete)]


def backbones(incomplete: str) -> list[str]:
    from autometa.backbones import BACKBONES

    return [name for name in BACKBONES if name.startswith(incomplete)]


def datasets(incomplete: str) -> list[str]:
    from autometa.episodes import DATASETS

    return [name for name in DATASETS if name.startswith(incomplete)]


def config_formats(incomplete: str) -> list[str]:
    from autometa.export.configuration import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]


def formats(incomplete: str) -> list[str]:
    from autometa.export.formats import FORMATS

    return [name for name in FORMATS if name.startswith(incomplete)]
