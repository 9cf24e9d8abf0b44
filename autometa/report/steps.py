"""Progress bars for commands that take a while: on a terminal, gone when they are done."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.progress import BarColumn, Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

from autometa.report.text import one_line
from autometa.search.events import Event, Phase


class StepsView:
    """An observer of phases, one bar each; elsewhere than on a terminal it shows nothing."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            BarColumn(20),
            TextColumn("{task.completed:.0f}/{task.total:.0f}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=console,
            transient=True,
            disable=not console.is_terminal or console.is_dumb_terminal,
        )
        self._bars: dict[str, TaskID] = {}

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def __call__(self, event: Event) -> None:
        if not isinstance(event, Phase):
            return
        if event.title not in self._bars:
            self._bars[event.title] = self._progress.add_task(event.title, detail="")
        detail = one_line(event.detail)
        bar = self._bars[event.title]
        self._progress.update(bar, completed=event.done, total=event.total, detail=detail)
