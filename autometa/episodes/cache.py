"""Decoded images kept between runs, one ``.npz`` a data set; losing it costs only time.

The folder is ``$AUTOMETA_CACHE``, or ``~/.cache/autometa``. Files are written beside their place
and moved there, so two processes can share the folder; one that is damaged is written anew.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4
from zipfile import BadZipFile

import numpy as np
import torch

from .sampler import ImageSplit

_DAMAGED = (OSError, ValueError, KeyError, TypeError, EOFError, BadZipFile, zlib.error)


def cached(kind: str, key: Mapping[str, Any], make: Callable[[], ImageSplit]) -> ImageSplit:
    """``make()``, or what it gave an earlier run for the same JSON-able ``key``."""
    try:
        path = file_of(kind, key)
    except RuntimeError:  # no home folder
        return make()
    with contextlib.suppress(*_DAMAGED):
        return _read(path)
    fresh = make()
    with contextlib.suppress(OSError):
        _write(path, fresh)
    return fresh


def file_of(kind: str, key: Mapping[str, Any]) -> Path:
    """Where :func:`cached` keeps this key."""
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return folder() / f"{kind}-{digest[:24]}.npz"


def folder() -> Path:
    """``$AUTOMETA_CACHE``, or ``~/.cache/autometa``; it need not exist."""
    return Path(os.environ.get("AUTOMETA_CACHE") or "~/.cache/autometa").expanduser()


def _read(path: Path) -> ImageSplit:
    # Opened here because NumPy leaves a file that it can't read open.
    with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
        head, images = json.loads(stored["head"].tobytes()), stored["images"]
    counts, classes, groups = (tuple(head[part]) for part in ("counts", "classes", "groups"))
    if images.dtype != np.uint8 or images.ndim != 4 or sum(counts) != len(images):
        raise ValueError(f"{path} holds no images")
    return ImageSplit(torch.from_numpy(images), counts, classes, groups)


def _write(path: Path, split: ImageSplit) -> None:
    parts = {"counts": split.counts, "classes": split.classes, "groups": split.groups}
    head = np.frombuffer(json.dumps(parts).encode(), dtype=np.uint8)
    with replacing(path) as temporary, temporary.open("wb") as file:
        np.savez(file, head=head, images=split.images.numpy())


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
