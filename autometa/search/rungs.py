"""Rungs of successive halving whose scores stay sorted: a cut costs the same in a long search.

Ray Tune's own sorts all scores of a rung at each report that reaches it.
"""

from __future__ import annotations

import math
from bisect import insort
from collections.abc import Sequence

from ray.tune.schedulers.async_hyperband import _Bracket


class Rung(dict[str, float]):
    """Trial → score there, each set once; ``ascending`` are those that are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.ascending: list[float] = []

    def __setitem__(self, trial: str, score: float) -> None:
        super().__setitem__(trial, score)
        if not math.isnan(score):
            insort(self.ascending, score)


class SortedBracket(_Bracket):
    """A bracket of Tune's that decides the same."""

    _rungs: list[tuple[float, Rung]]  # type: ignore[assignment]

    def __init__(self, bracket: _Bracket) -> None:
        self.rf: float = bracket.rf
        self._rungs = [(milestone, Rung()) for milestone, _ in bracket._rungs]
        self._stop_last_trials = bracket._stop_last_trials

    def cutoff(self, recorded: Rung) -> float | None:
        """The least score that passes; None where none is known."""
        if not recorded.ascending:
            return None
        return percentile(recorded.ascending, (1 - 1 / self.rf) * 100)


def percentile(ascending: Sequence[float], percent: float) -> float:
    """That of ``numpy.percentile``, to the bit."""
    at = (len(ascending) - 1) * (percent / 100)
    low = int(at)
    below, above = ascending[low], ascending[min(low + 1, len(ascending) - 1)]
    share, width = at - low, above - below
    return below + width * share if share < 0.5 else above - width * (1 - share)
