"""The views of a running search: which of them an output gets."""

from __future__ import annotations

from typing import Protocol, Self

from rich.console import Console

from autometa.report.json_lines import JsonView
from autometa.report.live import LiveView
from autometa.report.plain import PlainView
from autometa.search.events import Event


class View(Protocol):
    """An observer to use as a context manager."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def __call__(self, event: Event) -> None: ...


class NoView:
    """Shows nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was shown."""

    def __call__(self, event: Event) -> None:
        """Nothing is shown."""


def make_view(console: Console, *, quiet: bool = False, as_json: bool = False) -> View:
    """What was asked for, else what suits the console: a live table, or plain lines."""
    if as_json:
        return JsonView(console.file)
    if quiet:
        return NoView()
    rich = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console) if rich else PlainView(console)
