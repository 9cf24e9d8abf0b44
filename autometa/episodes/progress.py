"""How far the preparation of a data set is, for whoever listens in the same process."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeVar

Item = TypeVar("Item")
Listener = Callable[[int, int], None]
"""Told how many pieces are done, and of how many."""

EVERY_S = 0.5
_LISTENER: ContextVar[Listener | None] = ContextVar("listener", default=None)


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Within the block, ``listener`` is told of what takes longer than half a second."""
    token = _LISTENER.set(listener)
    try:
        yield
    finally:
        _LISTENER.reset(token)


def tracked(items: Iterable[Item], total: int) -> Iterator[Item]:
    """The items as they are; the listener is told, twice a second, how many were taken."""
    listener, told_at, told = _LISTENER.get(), time.monotonic(), False
    for done, item in enumerate(items):
        if listener and time.monotonic() - told_at >= EVERY_S:
            listener(done, total)
            told_at, told = time.monotonic(), True
        yield item
    if listener and told:
        listener(total, total)
