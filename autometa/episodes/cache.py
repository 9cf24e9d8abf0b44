"""Decoded images kept between runs and shared by processes, one file a data set.

The folder is ``$AUTOMETA_CACHE``, or ``~/.cache/autometa``; losing it costs only time. What is
read is the file mapped into memory: however many processes of a machine read it, its pixels are in
memory once. Files are written beside their place and moved there, so processes can share the
folder; of those that miss the same file, one makes it and the others wait. A damaged file is
written anew. Where no file can be written, each process has the images for itself.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from uuid import uuid4

import torch
from filelock import FileLock

from .sampler import ImageSplit

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, RuntimeError, UnpicklingError)


def cached(kind: str, key: Mapping[str, Any], make: Callable[[], ImageSplit]) -> ImageSplit:
    """``make()``, or what it gave an earlier run for the same JSON-able ``key``.

    The images are a mapped file: what is written to them stays in this process.
    """
    try:
        path = file_of(kind, key)
    except RuntimeError:  # no home folder
        return make()
    with contextlib.suppress(*_DAMAGED):
        return _read(path)
    with _alone(path):
        with contextlib.suppress(*_DAMAGED):
            return _read(path)
        fresh = make()
        with contextlib.suppress(*_DAMAGED):
            _write(path, fresh)
            return _read(path)
    return fresh


def file_of(kind: str, key: Mapping[str, Any]) -> Path:
    """Where :func:`cached` keeps this key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder() / f"{kind}-{digest[:24]}.pt"


def folder() -> Path:
    """``$AUTOMETA_CACHE``, or ``~/.cache/autometa``; it need not exist."""
    return Path(os.environ.get("AUTOMETA_CACHE") or "~/.cache/autometa").expanduser()


def _read(path: Path) -> ImageSplit:
    told = torch.load(path, map_location="cpu", mmap=True, weights_only=True)
    images, head = told["images"], json.loads(told["head"])
    counts, classes, groups = (tuple(head[part]) for part in ("counts", "classes", "groups"))
    if images.dtype != torch.uint8 or images.ndim != 4 or sum(counts) != len(images):
        raise ValueError(f"{path} holds no images")
    if told["crc32"] != _checksum(told["head"], images):
        raise ValueError(f"{path} is damaged")
    return ImageSplit(images, counts, classes, groups)


def _write(path: Path, split: ImageSplit) -> None:
    parts = {"counts": split.counts, "classes": split.classes, "groups": split.groups}
    head = json.dumps(parts)
    told = {"head": head, "crc32": _checksum(head, split.images), "images": split.images}
    with replacing(path) as temporary:
        torch.save(told, temporary)


def _checksum(head: str, images: torch.Tensor) -> str:
    return str(zlib.crc32(images.numpy().data, zlib.crc32(head.encode())))


@contextlib.contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Held by one process at a time, where files can be locked."""
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError, NotImplementedError):
            path.parent.mkdir(parents=True, exist_ok=True)
            held.enter_context(FileLock(path.with_name(f".{path.stem}.lock")))
        yield


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` that takes its place when the block ends well."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.stem}-{uuid4().hex}{path.suffix}")
    try:
        yield temporary
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
