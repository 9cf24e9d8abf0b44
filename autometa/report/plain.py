"""The view of a running search for files and pipes: a line whenever something ends."""

from __future__ import annotations

from rich.console import Console

from autometa.report.board import Board, Line
from autometa.report.text import (
    NOTHING,
    counts_text,
    dashboard_text,
    duration,
    one_line,
    phase_text,
    score_text,
)
from autometa.search.events import Event, Phase, SearchStarted, TrialEnded
from autometa.search.study import COMPLETE, REJECTED

MOST_LINES = 10
"""Of a phase whose pieces are many."""


class PlainView:
    """Prints without colours and control codes; rejected trials are only counted."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._board = Board()
        self._part = ("", 0)

    def __enter__(self) -> PlainView:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is left to print."""

    def __call__(self, event: Event) -> None:
        concluding = self._board.phase is None and self._board.begun
        best = self._board.best
        self._board.apply(event)
        match event:
            case SearchStarted():
                self._print(self._heading(event))
            case TrialEnded() if event.end != REJECTED:
                self._print(self._trial(event))
                if self._board.best is not best and self._board.best is not None:
                    self._print(f"new best {self._score(self._board.best)}")
            case Phase():
                if concluding:
                    self._print(f"trials: {counts_text(self._board.counts)}")
                if self._tells(event):
                    self._print(phase_text(event))

    def _tells(self, phase: Phase) -> bool:
        """Of many pieces of work only each tenth of them is a line."""
        part = (phase.title, MOST_LINES * phase.done // max(phase.total, 1))
        news = phase.total <= MOST_LINES or part != self._part
        self._part = part
        return news

    def _heading(self, event: SearchStarted) -> str:
        budget, resources = event.config.budget, event.config.resources
        parts = [
            f"study {event.config.name}: {budget.trials} trials of at most "
            f"{budget.iterations} meta-iterations",
            f"at most {duration(budget.time)}" if budget.time else "",
            f"{resources.gpus:g} GPUs a trial" if resources.gpus else "",
            f"{event.ended} trials kept" if event.ended else "",
            dashboard_text(event.links, secret=False),
        ]
        return ", ".join(part for part in parts if part)

    def _trial(self, event: TrialEnded) -> str:
        board = self._board
        budget = board.config.budget
        score = score_text(event.score, event.ci95, board.direction)
        best = self._score(board.best) if board.best else NOTHING
        why = f"  ({one_line(event.reason)})" if event.reason and event.end != COMPLETE else ""
        return (
            f"{board.done}/{budget.trials} {event.name} {event.end} at "
            f"{event.iteration}/{budget.iterations}  score {score}  best {best}{why}"
        )

    def _score(self, line: Line) -> str:
        return f"{score_text(line.score, line.ci95, self._board.direction)} ({line.name})"

    def _print(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)
