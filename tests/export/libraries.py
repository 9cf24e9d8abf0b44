"""Other libraries, really installed: each in a virtual environment of its own.

What runs here, torch above all, is lent to it, so that the index is only asked for what is new.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path

import pytest

UNREACHABLE = ("No matching distribution", "connection", "Temporary failure in name resolution")
PIP = ("--quiet", "--disable-pip-version-check", "--retries", "1")


def environment(home: Path, *requirements: str, options: tuple[str, ...] = ()) -> Path:
    """Its interpreter; the test is skipped where pip can't reach an index."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(home)], check=True)
    python = home / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    lent = Path(sysconfig.get_path("purelib"))
    inner = subprocess.run(
        [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
        capture_output=True,
        text=True,
        check=True,
    )
    (Path(inner.stdout.strip()) / "lent.pth").write_text(str(lent))
    if requirements:
        wanted = [f"torch=={version('torch')}", *requirements]
        pip(python, "install", "--no-compile", *options, *wanted)
    return python


def pip(python: Path, command: str, *arguments: str) -> None:
    """Run pip for an interpreter, and skip where there is no index."""
    line = [sys.executable, "-m", "pip", "--python", str(python), command, *PIP, *arguments]
    done = subprocess.run(line, capture_output=True, text=True, timeout=300)
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"pip can't fetch {' '.join(arguments)}: {last}")
    assert done.returncode == 0, done.stderr


def run(python: Path, folder: Path, *arguments: str, **variables: str) -> str:
    """What a script prints when it is run in a folder; anything but success is an error."""
    outer: Mapping[str, str] = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**outer, **variables},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
