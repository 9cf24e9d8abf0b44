"""A folder that appears whole or not at all."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from autometa.errors import BundleError


def refuse_existing(target: Path) -> None:
    """Leave alone what somebody has there already.

    Raises:
        BundleError: The target exists.
    """
    if target.exists():
        raise BundleError(f"{str(target)!r} exists already: choose another folder, or remove it")


@contextmanager
def written_whole(target: Path) -> Iterator[Path]:
    """An empty folder beside the target, which becomes it when the block has ended well.

    Raises:
        BundleError: The target exists, or can't be written.
    """
    refuse_existing(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=target.parent, prefix=f".{target.name}."))
    except OSError as error:
        raise BundleError(f"{str(target)!r} can't be written: {error.strerror}") from None
    try:
        yield temporary
        temporary.chmod(0o755)
        temporary.rename(target)
    except OSError as error:
        raise BundleError(f"{str(target)!r} can't be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def put(into: Path, files: dict[str, str]) -> None:
    """Write texts, each at its path below the folder."""
    for name, text in files.items():
        path = into / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
