"""Members that a study brings along: what its program registered, for other processes.

A file each, ``KIND.NAME.pkl``, that the search writes into the study's folder: a class or function
of an importable module by its name, one of a script or notebook by its content.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any

from autometa.backbones import BACKBONES
from autometa.episodes import DATASETS
from autometa.errors import StudyError
from autometa.learners import LEARNERS
from autometa.registry import Registry

REGISTRIES: dict[str, Registry] = {"learner": LEARNERS, "backbone": BACKBONES, "tasks": DATASETS}


@contextmanager
def members_of(folder: str | Path | None) -> Iterator[None]:
    """The members in a study's folder of them, as if this process had registered them.

    Args:
        folder: None, or a folder that isn't there, brings none.

    Raises:
        StudyError: A member can't be loaded here; the message names it and what is missing.
    """
    path = Path(folder) if folder else None
    with ExitStack() as stack:
        if path and path.is_dir():
            for kind, members in _read(path, path.stat().st_mtime_ns).items():
                stack.enter_context(REGISTRIES[kind].lent(members))
        yield


@lru_cache(maxsize=4)
def _read(folder: Path, changed: int) -> Mapping[str, dict[str, Any]]:
    """Kind → name → member; read once a process."""
    found: dict[str, dict[str, Any]] = {kind: {} for kind in REGISTRIES}
    for path in sorted(folder.glob("*.pkl")):
        kind, _, name = path.stem.partition(".")
        try:
            found[kind][name] = pickle.loads(path.read_bytes())
        except Exception as error:  # whatever the module of a member raises
            reason = str(error).strip().splitlines() or [type(error).__name__]
            raise StudyError(
                f"study {str(folder.parent)!r} needs the code of its {_told(kind)} {name!r}, "
                f"which can't be loaded: {reason[0]}; give Python a path to it (PYTHONPATH)"
            ) from error
    return found


def _told(kind: str) -> str:
    return "function of tasks" if kind == "tasks" else kind
