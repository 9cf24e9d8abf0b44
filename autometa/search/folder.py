"""The study folder on disk: what lies where, written whole or not at all."""

from __future__ import annotations

import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock, Timeout

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError, StudyError, nearest

CHECKPOINTS = Path("checkpoints")
MEMBERS = "members"
LOOK_S = 1.0
PACKAGES = ("autometa", "torch", "ray", "optuna", "nni", "numpy")


def write_atomically(path: Path, text: str) -> None:
    """Write a text file whole: a temporary file beside it, then a rename."""
    write_bytes_atomically(path, text.encode())


def write_bytes_atomically(path: Path, content: bytes) -> None:
    """The same for any file."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, value: Any) -> None:
    write_atomically(path, json.dumps(value, indent=1, allow_nan=False) + "\n")


def make_out(folder: Path) -> None:
    """Make the folder of a command's ``out`` where it isn't there yet.

    Raises:
        StudyError: It can't be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = error.strerror
        raise StudyError(f"out is {str(folder)!r}, which can't be made: {reason}") from None


@dataclass(frozen=True)
class StudyFolder:
    """Paths of a study, and the little that is kept in plain files."""

    path: Path

    @property
    def database(self) -> Path:
        return self.path / "study.db"

    @property
    def earlier(self) -> Path:
        return self.path / "earlier.json"

    @property
    def members(self) -> Path:
        return self.path / MEMBERS

    @property
    def result(self) -> Path:
        return self.path / "result.json"

    @property
    def insight(self) -> Path:
        return self.path / "insight.json"

    @property
    def bundle(self) -> Path:
        return self.path / "best"

    @property
    def report(self) -> Path:
        return self.path / "report.html"

    @property
    def trials_csv(self) -> Path:
        return self.path / "trials.csv"

    def checkpoint(self, name: str) -> Path:
        return self.path / CHECKPOINTS / f"{name}.pt"

    def cuts(self, name: str) -> Path:
        """Which members of a cohort are to stop; ``name`` is its first trial's."""
        return self.path / CHECKPOINTS / f"{name}.cuts.json"

    def drop_kept(self) -> None:
        """Remove what only running trials need: checkpoints on the way, and cuts."""
        for pattern in ("*@*.pt", "*.cuts.json"):
            for path in (self.path / CHECKPOINTS).glob(pattern):
                path.unlink()

    def finalist(self, name: str) -> Path:
        return self.path / "finalists" / f"{name}.json"

    def untouched(self) -> bool:
        """Whether the study is as it was made: no trial has left a checkpoint."""
        checkpoints = self.path / CHECKPOINTS
        return checkpoints.is_dir() and not any(checkpoints.iterdir())

    def read_result(self) -> dict[str, Any] | None:
        """``result.json``, or None before the search has one."""
        return self.read_json(self.result)

    def read_json(self, path: Path) -> dict[str, Any] | None:
        """A JSON object of this study, or None where the file isn't there.

        Raises:
            StudyError: The file is damaged.
        """
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            raise StudyError(f"{path} is damaged ({error}): remove it and resume") from None
        if not isinstance(value, dict):
            raise StudyError(f"{path} is damaged (no JSON object): remove it and resume")
        return value

    def manifest(self) -> dict[str, Any]:
        """``study.yaml``: the resolved configuration, versions and the data's fingerprint."""
        path = self.path / "study.yaml"
        if not self.path.is_dir():
            wrong = "is no folder" if self.path.exists() else "doesn't exist"
            raise StudyError(
                f"study folder {str(self.path)!r} {wrong}: {self._nearest()}"
                "name one that `autometa search` made"
            )
        try:
            manifest = yaml.safe_load(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise StudyError(
                f"{str(self.path)!r} is no study folder: it has no study.yaml, "
                "as those that `autometa search` makes"
            ) from None
        except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
            raise StudyError(f"{path} can't be read: {' '.join(str(error).split())}") from None
        if not isinstance(manifest, dict) or not isinstance(manifest.get("config"), dict):
            raise StudyError(f"{path} is damaged: it holds no study configuration")
        return manifest

    def _nearest(self) -> str:
        """A study beside this path whose name is like it."""
        others = {each.parent.name for each in self.path.parent.glob("*/study.yaml")}
        near = nearest(self.path.name, others)
        return f"did you mean {str(self.path.with_name(near))!r}? " if near else ""

    def config(self) -> StudyConfig:
        """The study's configuration, its folder being this one.

        Raises:
            StudyError: The folder holds no readable study.
        """
        values = self.manifest()["config"]
        try:
            return parse_config(values | {"out": str(self.path)}, f"{self.path / 'study.yaml'}")
        except ConfigError as error:
            raise StudyError(str(error)) from None

    @contextmanager
    def lock(self, wait_s: float = LOOK_S) -> Iterator[None]:
        """Held by the one process that drives the study; a killed process holds it no more.

        Whoever looks whether a process holds it does so for an instant, which is waited for.

        Raises:
            StudyError: Another process drives this study.
        """
        lock = FileLock(self.path / ".lock")
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise StudyError(
                f"study {str(self.path)!r} is being run by another process: "
                f"watch it with `autometa watch {self.path}`"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def running(self) -> bool:
        """Whether a process drives the study now."""
        try:
            with self.lock(wait_s=0):
                return False
        except StudyError:
            return True


def create_folder(
    config: StudyConfig,
    data: Mapping[str, Any],
    earlier: str | None = None,
    members: Mapping[str, bytes] | None = None,
) -> StudyFolder:
    """A new study folder with its manifest; it appears whole or not at all.

    Args:
        data: What the manifest says of the data.
        earlier: Text of ``earlier.json``, in a study that starts warm.
        members: Files of what its program registered (see :mod:`autometa.search.members`).

    Raises:
        StudyError: The folder exists already, or can't be written.
    """
    path = config.folder
    if path.exists():
        raise StudyError(
            f"study folder {str(path)!r} exists already: go on with `autometa resume {path}`, "
            "or choose another with --out"
        )
    manifest = {
        "config": config.public(),
        "data": dict(data),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {"python": platform.python_version(), **_versions()},
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}."))
    except OSError as error:
        raise _unwritable(path, error) from None
    try:
        for name in (CHECKPOINTS, "finalists"):
            (temporary / name).mkdir()
        text = yaml.safe_dump(manifest, sort_keys=False, allow_unicode=True)
        write_atomically(temporary / "study.yaml", text)
        if earlier is not None:
            write_atomically(StudyFolder(temporary).earlier, earlier)
        if members:
            (temporary / MEMBERS).mkdir()
        for name, content in (members or {}).items():
            write_bytes_atomically(temporary / MEMBERS / name, content)
        temporary.chmod(0o755)
        temporary.rename(path)
    except OSError as error:
        shutil.rmtree(temporary, ignore_errors=True)
        raise _unwritable(path, error) from None
    return StudyFolder(path)


def _unwritable(path: Path, error: OSError) -> StudyError:
    return StudyError(
        f"study folder {str(path)!r} can't be made ({error.strerror}: {error.filename}): "
        "choose another with --out"
    )


def _versions() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found
