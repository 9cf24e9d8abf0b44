"""The winner's configuration as YAML, JSON and TOML, without its weights."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from autometa.export.bundle import describe
from autometa.export.configuration import FORMATS, render
from autometa.export.formats.base import Format, Winner
from autometa.export.target import put


class ConfigFormat(Format):
    """Everything one would set to train it again; the three files say the same."""

    summary: ClassVar[str] = "its configuration as YAML, JSON and TOML, without weights"

    def write(self, winner: Winner, into: Path) -> None:
        described = describe(winner.config, winner.entry)
        put(into, {f"config.{form}": render(described, form) for form in FORMATS})
