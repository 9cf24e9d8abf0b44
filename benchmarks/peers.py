"""The peers that speed is measured against, in a folder of their own: ``.peers``.

learn2learn's last release (0.2.0) doesn't build on Python 3.11, but its algorithms are plain
Python: its source distribution is unpacked and used as published, without what has to be compiled.
Only what is shipped as C fails: translated anew by today's Cython, its data sets build unchanged.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
import tempfile
import types
from pathlib import Path

FOLDER = Path(".peers")
LEARN2LEARN = "learn2learn-0.2.0"
HIGHER = "higher-0.2.1"
TORCHOPT = "torchopt-0.7.3"
OPTREE, GRAPHVIZ = "optree-0.20.0", "graphviz-0.21"  # which torchopt imports
CYTHON = "cython-3.3.1"


OTHERS = (HIGHER, TORCHOPT, OPTREE, GRAPHVIZ)


def install(others: tuple[str, ...] = OTHERS) -> None:
    """Fetch learn2learn and others from the package index, once, and make them importable."""
    FOLDER.mkdir(exist_ok=True)
    for release in others:
        if not (FOLDER / release.partition("-")[0]).exists():
            _pip("install", "--target", str(FOLDER), _requirement(release))
    if not (FOLDER / LEARN2LEARN).exists():
        with tempfile.TemporaryDirectory() as folder:
            options = ("--no-binary", ":all:", "--dest", folder)
            _pip("download", *options, _requirement(LEARN2LEARN))
            with tarfile.open(Path(folder) / f"{LEARN2LEARN}.tar.gz") as archive:
                archive.extractall(FOLDER, filter="data")
    sys.path.append(str(FOLDER))
    root = FOLDER / LEARN2LEARN / "learn2learn"
    # Packages without their __init__, which would import what has to be compiled.
    examples = root.parent / "examples" / "vision" / "mamlpp"
    packages = {"learn2learn": root, "learn2learn.mamlpp": examples}
    packages |= {f"learn2learn.{name}": root / name for name in ("algorithms", "nn")}
    for name, path in packages.items():
        package = types.ModuleType(name)
        package.__path__ = [str(path)]
        sys.modules[name] = package


def build() -> None:
    """Compile learn2learn's data sets from its own Cython sources, once; needs a C compiler."""
    root = FOLDER / LEARN2LEARN
    if list((root / "learn2learn" / "data").glob("task_dataset.*.so")):
        return
    _pip("install", "--target", str(FOLDER), _requirement(CYTHON))
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", "--inplace"],
        cwd=root,
        env=os.environ | {"PYTHONPATH": str(FOLDER.absolute())},
        stderr=subprocess.DEVNULL,
        check=True,
    )


def _requirement(release: str) -> str:
    return release.replace("-", "==")


def _pip(command: str, *arguments: str) -> None:
    quiet = ("--quiet", "--no-deps", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", command, *quiet, *arguments], check=True)
