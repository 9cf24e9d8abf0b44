"""The view of a running search: a live table on a terminal."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from autometa.report.board import Board, Line
from autometa.report.text import (
    TABS,
    counts_text,
    dashboard_text,
    duration,
    phase_text,
    score_text,
)
from autometa.report.trial_table import bar_text, trial_table
from autometa.report.usage import Usage
from autometa.search.events import Event

MOST_ROWS = 12
FEWEST_ROWS = 3
OTHER_LINES = 10


class LiveView:
    """A table that follows the search in place, four times a second."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._board = Board(clock)
        self._usage = Usage(clock)
        self._lock = threading.Lock()  # events come in while another thread draws
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.apply(event)

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        with self._lock:
            return self._render(self._board)

    def _render(self, board: Board) -> RenderableType:
        width = self._console.width
        parts: list[RenderableType] = []
        if board.begun:
            parts.append(header(board, width))
            if told := dashboard_text(board.links, secret=True):
                parts += [_line((told, "dim")), _line((TABS, "dim"))]
            parts.append(best_line(board.best, board.direction, board.best_age_s))
            if lines := self._shown(board):
                iterations = board.config.budget.iterations
                parts.append(trial_table(lines, iterations, board.direction, width))
            parts.append(_line(counts_text(board.counts)))
        else:
            parts.append(_line(f"starting  {duration(board.elapsed_s)}"))
        if board.phase:
            parts.append(_phase(board))
        if usage := self._usage.text():
            parts.append(_line((usage, "dim")))
        return Group(*parts)

    def _shown(self, board: Board) -> list[Line]:
        """The running trials, then the latest that ended."""
        room = min(max(self._console.height - OTHER_LINES, FEWEST_ROWS), MOST_ROWS)
        return [*board.running, *reversed(board.ended)][:room]


def header(board: Board, width: int) -> Text:
    """Name, trials and time of their budgets, time left; a narrow terminal gets less of it."""
    budget = board.config.budget
    bar = bar_text(board.done, budget.trials, "cyan")
    trials = f"{board.done}/{budget.trials} trials"
    searching = board.phase is None or not board.lines  # what follows the trials has no budget
    whole = f" of {duration(budget.time)}" if budget.time is not None and searching else ""
    time_ = f"  {duration(board.spent_s)}{whole}"
    left = None if board.phase else board.time_left_s
    left_ = "" if left is None else f"  about {duration(left)} left"
    name = (board.config.name, "bold")
    return _fitting(
        width,
        _line(name, "  ", bar, f" {trials}{time_}{left_}"),
        _line(name, f"  {trials}{time_}{left_}"),
        _line(f"{trials}{time_}{left_}"),
    )


def best_line(best: Line | None, direction: str, age_s: float) -> Text:
    """``best 80.3 ± 1.5 %  protonet-conv-004  3 min 20 s ago``."""
    if best is None:
        return _line("best: no trial is complete yet")
    score = score_text(best.score, best.ci95, direction)
    return _line("best ", (score, "bold green"), f"  {best.name}  {duration(age_s)} ago")


def _phase(board: Board) -> Text:
    assert board.phase is not None
    left = board.phase_left_s
    told = f"  about {duration(left)} left" if left else ""
    bar = bar_text(board.phase.done, board.phase.total, "cyan")
    return _line(bar, "  ", phase_text(board.phase), told)


def _fitting(width: int, *texts: Text) -> Text:
    """The first that is no wider, or the last."""
    return next((text for text in texts if text.cell_len <= width), texts[-1])


def _line(*parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
