"""What glibc is told of memory, before the processes of a study start.

It hands large blocks back to the system at once and fetches them anew, page by page: kept instead,
a meta-iteration of a Conv4 on a CPU takes a third of the time.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence

from autometa.engine.strategies import LARGE_INPUT

KEPT = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_TOP_PAD_": str(2**27),  # more than an arena's heap, which is then never handed back
}
ARENAS = "MALLOC_ARENA_MAX"
_told: dict[str, str] = {}


def kept_memory(threads: float = 1, input_shape: Sequence[int] | None = None) -> dict[str, str]:
    """Environment variables for trials of so many threads each, on such inputs.

    Threads beside the first have arenas of their own, which hand back what is over 64 MB, as the
    features of large images are. With one arena they don't, but wait for one another at every call:
    so there is one, unless several threads train on small inputs.
    """
    several = threads > 1 and input_shape is not None and math.prod(input_shape) < LARGE_INPUT
    return KEPT | {ARENAS: str(8 * math.ceil(threads)) if several else "1"}


def keep_memory(threads: float = 1, input_shape: Sequence[int] | None = None) -> None:
    """Set them for what this process starts, except where the user did."""
    for name, value in kept_memory(threads, input_shape).items():
        if os.environ.get(name) in (None, _told.get(name)):
            os.environ[name] = _told[name] = value
