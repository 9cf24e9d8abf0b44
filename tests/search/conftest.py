"""Studies small enough for a test: regression on sinusoids, milliseconds a trial."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from small_studies import SMALL, merged

from autometa.config import StudyConfig, parse_config


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., StudyConfig]:
    def make(**over: Any) -> StudyConfig:
        return parse_config(merged(SMALL | {"out": str(tmp_path / "study")}, over))

    return make


@pytest.fixture(scope="session")
def small_in() -> Callable[..., StudyConfig]:
    """The same for fixtures that live longer than a test: the study folder's place comes first."""

    def make(place: Path, **over: Any) -> StudyConfig:
        return parse_config(merged(SMALL | {"out": str(place / "study")}, over))

    return make


def autometa(*arguments: str, **options: Any) -> subprocess.CompletedProcess[str]:
    """The command line in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "autometa.cli", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **options,
    )
