"""Environments without autometa, where what was exported is used with the library it is for.

What runs here already (torch, NumPy, …) is lent to them by links, so that only the target library
comes from the package index.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import venv
from collections.abc import Iterable
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

UNREACHABLE = ("No matching distribution", "connection", "Temporary failure in name resolution")
ABSENT = ("autometa", "nni", "ray", "optuna")


def clean_python(home: Path, packages: Iterable[str] = (), lent: Iterable[str] = ()) -> Path:
    """The interpreter of a new environment in a folder that doesn't exist yet.

    Args:
        packages: Requirements that pip installs there; the test is skipped where there is no index.
        lent: Distributions of this environment that are seen there, with all that they need.
    """
    venv.create(home / "venv", with_pip=False)
    python = home / "venv" / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    found = _with_requirements(lent)
    _lend(found.values(), home / "lent")
    asked = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    done = subprocess.run(asked, check=True, capture_output=True, text=True)
    # A path of its own: pip removes nothing that lies outside of the environment.
    (Path(done.stdout.strip()) / "lent.pth").write_text(f"{home / 'lent'}\n")
    pins = home / "pins.txt"
    pins.write_text("".join(f"{name}=={each.version}\n" for name, each in found.items()))
    if packages:
        _install(python, [*packages], pins)
    return python


def _with_requirements(names: Iterable[str]) -> dict[str, Distribution]:
    found: dict[str, Distribution] = {}
    waiting = list(names)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in found:
            continue
        try:
            found[name] = distribution(name)
        except PackageNotFoundError:
            continue  # what an optional part of a package needs
        needed = [Requirement(each) for each in found[name].requires or ()]
        waiting += [r.name for r in needed if not r.marker or r.marker.evaluate({"extra": ""})]
    return found


def _lend(distributions: Iterable[Distribution], into: Path) -> None:
    """Links to the files and folders that the distributions have at the top."""
    into.mkdir()
    for each in distributions:
        for name in {path.parts[0] for path in each.files or ()} - {"..", "__pycache__"}:
            if not (into / name).exists():
                (into / name).symlink_to(str(each.locate_file(name)))


def _install(python: Path, packages: list[str], pins: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
    options = ["--no-compile", "--retries", "1", "--disable-pip-version-check", "-c", str(pins)]
    done = subprocess.run(
        [*pip, *options, *packages], check=False, capture_output=True, text=True, timeout=600
    )
    if done.returncode and any(sign in done.stderr for sign in UNREACHABLE):
        last = done.stderr.strip().splitlines()[-1]
        pytest.skip(f"pip can't fetch {' '.join(packages)} for a clean environment: {last}")
    assert done.returncode == 0, done.stderr


def run_there(python: Path, script: str, folder: Path) -> str:
    """What a script prints that runs in a folder there; autometa can't be imported by it."""
    guard = (
        "import importlib.util\n"
        f"assert not [name for name in {ABSENT!r} if importlib.util.find_spec(name)]\n"
    )
    (folder / "use.py").write_text(guard + script, encoding="utf-8")
    outer = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [str(python), "use.py"],
        cwd=folder,
        env=outer,
        check=False,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
