"""Work in parts that are halved when memory runs out, for now and from then on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch

T = TypeVar("T")


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
