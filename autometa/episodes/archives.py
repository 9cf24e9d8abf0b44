"""Pictures in a folder or a zip, read in place: nothing is ever unpacked to disk."""

from __future__ import annotations

import io
import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile, ZipFile

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError

from autometa.errors import DataError

from .progress import tracked

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_THREADS = 8
_BROKEN_ZIP = (BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)
_BROKEN_IMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)

Pixels = npt.NDArray[Any]


@dataclass(frozen=True)
class Tree:
    """Files below a folder or in a zip.

    Args:
        path: The folder or the zip.
        names: Relative names with ``/``, sorted; hidden files are left out.
        stamp: Changes when the files do (sizes and times of change).
        read: The bytes of a name.
    """

    path: Path
    names: tuple[str, ...]
    stamp: tuple[tuple[str, int, int], ...]
    read: Callable[[str], bytes]

    def pictures(self) -> list[str]:
        """The names that end like a picture's."""
        return [name for name in self.names if name.lower().endswith(SUFFIXES)]


@contextmanager
def opened(path: Path) -> Iterator[Tree]:
    """The tree at ``path``, readable until the block ends.

    Raises:
        DataError: Nothing is there, it is neither a folder nor a zip, or it can't be read.
    """
    if path.is_dir():
        yield _folder(path)
    elif path.is_file():
        with _zip(path) as archive:
            yield _archive(path, archive)
    else:
        raise DataError(f"{path} doesn't exist: name a folder or a zip that does")


def _folder(path: Path) -> Tree:
    files = {p.relative_to(path).as_posix(): p.stat() for p in path.rglob("*") if p.is_file()}
    names = tuple(sorted(name for name in files if _shown(name)))
    stamp = tuple((name, files[name].st_size, files[name].st_mtime_ns) for name in names)

    def read(name: str) -> bytes:
        try:
            return (path / name).read_bytes()
        except OSError as error:
            raise DataError(f"{path / name} can't be read: {error.strerror}") from error

    return Tree(path, names, stamp, read)


def _zip(path: Path) -> ZipFile:
    try:
        return ZipFile(path)
    except (BadZipFile, OSError) as error:
        raise DataError(f"{path} isn't a readable zip ({error}): fetch it again") from error


def _archive(path: Path, archive: ZipFile) -> Tree:
    shown = sorted(i.filename for i in archive.infolist() if not i.is_dir() and _shown(i.filename))
    status = path.stat()

    def read(name: str) -> bytes:
        try:
            return archive.read(name)
        except (*_BROKEN_ZIP, OSError) as error:
            raise DataError(
                f"{name} in {path} is damaged ({error}): fetch the zip again"
            ) from error

    stamp = ((path.name, status.st_size, status.st_mtime_ns),)
    return Tree(path, tuple(shown), stamp, read)


def _shown(name: str) -> bool:
    return not any(part.startswith((".", "__MACOSX")) for part in name.split("/"))


def decode(tree: Tree, names: Sequence[str], convert: Callable[[Image.Image], Pixels]) -> Pixels:
    """``convert`` of each picture, stacked: [n, …].

    Raises:
        DataError: A picture is damaged; the message names it.
    """

    def one(name: str) -> Pixels:
        data = tree.read(name)
        try:
            with Image.open(io.BytesIO(data)) as image:
                return convert(image)
        except _BROKEN_IMAGE as error:
            # Pillow's own message names an object in memory where it knows no format.
            reason = "" if isinstance(error, UnidentifiedImageError) else f" ({error})"
            raise DataError(
                f"{name} in {tree.path} isn't a readable image{reason}: mend or remove it"
            ) from error

    if not names:
        raise DataError(f"{tree.path} holds no images")
    first = one(names[0])
    stacked = np.empty((len(names), *first.shape), first.dtype)
    stacked[0] = first

    def fill(index: int) -> None:
        stacked[index] = one(names[index])

    with ThreadPoolExecutor(_THREADS) as pool:
        for _ in tracked(pool.map(fill, range(1, len(names))), len(names) - 1):
            pass  # raises what went wrong
    return stacked
