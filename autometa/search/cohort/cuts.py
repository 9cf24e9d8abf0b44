"""Which members of a cohort are to stop, as the search tells a running worker: in a file."""

from __future__ import annotations

import json
from collections.abc import Collection
from pathlib import Path

from autometa.search.folder import write_json


def read_cuts(path: Path) -> set[str]:
    """Names of the members that shall go no further."""
    try:
        return set(json.loads(path.read_text(encoding="utf-8")))
    except FileNotFoundError:
        return set()


def write_cuts(path: Path, names: Collection[str]) -> None:
    """Replace them."""
    write_json(path, sorted(names))
