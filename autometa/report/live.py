"""The view of a running search: a live table on a terminal, plain lines elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from autometa.report.board import Board, Line
from autometa.report.plain import PlainView, phase_text
from autometa.report.status import status_table
from autometa.report.text import TABS, counts_text, dashboard_text, duration, score_text
from autometa.report.trial_table import bar_text, trial_table
from autometa.search.events import Event

__all__ = ["LiveView", "PlainView", "make_view", "status_table"]

MOST_ROWS = 12
FEWEST_ROWS = 3
OTHER_LINES = 10


def make_view(console: Console) -> LiveView | PlainView:
    """The view that suits the console: an observer to use as a context manager."""
    rich = console.is_terminal and not console.is_dumb_terminal
    return LiveView(console) if rich else PlainView(console)


class LiveView:
    """A table that follows the search in place, four times a second."""

    def __init__(self, console: Console, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = console
        self._board = Board(clock)
        self._lock = threading.Lock()  # events come in while another thread draws
        self._live = Live(console=console, get_renderable=self.render, refresh_per_second=4)

    def __enter__(self) -> LiveView:
        self._live.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._live.stop()

    def __call__(self, event: Event) -> None:
        with self._lock:
            self._board.apply(event)

    def render(self) -> RenderableType:
        """What the terminal shows now."""
        with self._lock:
            return self._render(self._board)

    def _render(self, board: Board) -> RenderableType:
        parts: list[RenderableType] = [_header(board)]
        if told := dashboard_text(board.links, secret=True):
            parts += [_line((told, "dim")), _line((TABS, "dim"))]
        parts.append(best_line(board.best, board.direction))
        if lines := self._shown(board):
            width, budget = self._console.width, board.config.budget
            parts.append(trial_table(lines, budget.iterations, board.direction, width))
        parts.append(_line(counts_text(board.counts)))
        if board.phase:
            bar = bar_text(board.phase.done, board.phase.total, "cyan")
            parts.append(_line(bar, "  ", phase_text(board.phase)))
        return Group(*parts)

    def _shown(self, board: Board) -> list[Line]:
        """The running trials, then the latest that ended."""
        room = min(max(self._console.height - OTHER_LINES, FEWEST_ROWS), MOST_ROWS)
        return [*board.running, *reversed(board.ended)][:room]


def _header(board: Board) -> Text:
    budget, left = board.config.budget, board.time_left_s
    searching = board.phase is None
    return _line(
        (board.config.name, "bold"),
        f"  {duration(board.elapsed_s)}  trials {board.done}/{budget.trials}",
        f"  about {duration(left)} left" if searching and left is not None else "",
    )


def best_line(best: Line | None, direction: str) -> Text:
    """``best 80.3 ± 1.5 %  protonet-conv-004``."""
    if best is None:
        return _line("best: no trial is complete yet")
    score = score_text(best.score, best.ci95, direction)
    return _line("best ", (score, "bold green"), f"  {best.name}")


def _line(*parts: str | Text | tuple[str, str]) -> Text:
    return Text.assemble(*parts, no_wrap=True, overflow="ellipsis")
