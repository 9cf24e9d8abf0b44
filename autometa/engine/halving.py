"""Where memory runs out: work in parts that are halved, then inner steps that are computed again.

What had to be done once is done from then on.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

import torch

S = TypeVar("S")
T = TypeVar("T")


class Sparing(Generic[S]):
    """Work by ``parts`` that halve it, and by computing more and keeping less once that fails.

    Args:
        renew: Makes the parts, anew when ``recompute`` begins: larger ones may fit then.

    Attributes:
        parts: What halves the work.
        recompute: Whether learners are to compute inner steps again.
    """

    def __init__(self, renew: Callable[[], S]) -> None:
        self._renew, self.parts, self.recompute = renew, renew(), False

    def run(self, able: bool, attempt: Callable[[], T]) -> T:
        """``attempt``, which goes by the attributes; ``able`` is whether it could recompute.

        Raises:
            torch.OutOfMemoryError: A single piece takes too much memory even so.
        """
        try:
            return attempt()
        except torch.OutOfMemoryError:
            if self.recompute or not able:
                raise
        # Outside of the handler, whose traceback still holds what the failed attempt made.
        torch.cuda.empty_cache()
        self.parts, self.recompute = self._renew(), True
        return attempt()


class Halving:
    """How large the parts are.

    Attributes:
        most: Of the largest part; None while nothing had to be split.
    """

    def __init__(self) -> None:
        self.most: int | None = None

    def run(self, count: int, attempt: Callable[[int], T]) -> T:
        """``attempt`` of the size of parts that ``count`` pieces are to be done in.

        Raises:
            torch.OutOfMemoryError: A single piece takes too much memory.
        """
        while True:
            size = min(self.most or count, count)
            try:
                return attempt(size)
            except torch.OutOfMemoryError:
                if size == 1:
                    raise
            # Outside of the handler, whose traceback still holds what the failed attempt made.
            self.most = (size + 1) // 2
            torch.cuda.empty_cache()
