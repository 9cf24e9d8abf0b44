"""Where the boxes of a network stand: in ranks, each below all that it reads (Sugiyama's way).

A box's rank is the longest way to it, or just above those that read it. Where an edge passes a
rank, it has a place of its own there, so that it runs around the boxes. Within a rank, places are
in the order of the mean of what they hang together with, and as near to that as those beside them
allow.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import fmean

GAP_X, GAP_Y = 22.0, 34.0
LANE = 10.0
SWEEPS = 4


@dataclass(eq=False)
class Place:
    """A box, or a lane of an edge that passes (``box`` is None then).

    ``x`` is its middle; ``ceiling`` and ``floor`` are those of its rank, between which only its
    own edges are above and below it.
    """

    box: int | None
    rank: int
    width: float
    height: float = 0.0
    x: float = 0.0
    top: float = 0.0
    ceiling: float = 0.0
    floor: float = 0.0
    above: list[Place] = field(default_factory=list, repr=False)
    below: list[Place] = field(default_factory=list, repr=False)

    @property
    def bottom(self) -> float:
        return self.top + self.height


@dataclass(frozen=True)
class Layout:
    """Places of the boxes, in their order; edges as the places that they lead through."""

    boxes: list[Place]
    edges: list[list[Place]]
    width: float
    height: float


def laid_out(sources: list[tuple[int, ...]], sizes: list[tuple[float, float]]) -> Layout:
    """The places of boxes that read earlier ones.

    Args:
        sources: Of each box, which earlier ones it reads.
        sizes: Of each box, width and height.
    """
    rank = _ranks(sources)
    boxes = [Place(i, rank[i], *size) for i, size in enumerate(sizes)]
    edges = [_edge(boxes[each], boxes[i]) for i, reads in enumerate(sources) for each in reads]
    ranks: defaultdict[int, list[Place]] = defaultdict(list)
    for place in dict.fromkeys([*boxes, *(p for edge in edges for p in edge)]):
        ranks[place.rank].append(place)
    rows = [ranks[each] for each in sorted(ranks)]
    _arrange(rows)
    height = _stack(rows)
    left = min(p.x - p.width / 2 for row in rows for p in row)
    for place in (p for row in rows for p in row):
        place.x -= left
    width = max(p.x + p.width / 2 for row in rows for p in row)
    return Layout(boxes, edges, width, height)


def _ranks(sources: list[tuple[int, ...]]) -> list[int]:
    rank: list[int] = []
    for reads in sources:
        rank.append(1 + max((rank[each] for each in reads), default=-1))
    readers: defaultdict[int, list[int]] = defaultdict(list)
    for place in reversed(range(len(sources))):
        if place and readers[place]:
            rank[place] = min(rank[each] for each in readers[place]) - 1
        for each in sources[place]:
            readers[each].append(place)
    return rank


def _edge(start: Place, end: Place) -> list[Place]:
    """The way from a box to another, with a lane in every rank between."""
    lanes = [Place(None, rank, LANE) for rank in range(start.rank + 1, end.rank)]
    way = [start, *lanes, end]
    for upper, lower in pairwise(way):
        upper.below.append(lower)
        lower.above.append(upper)
    return way


def _arrange(rows: list[list[Place]]) -> None:
    for row in rows:
        _spread(row, [0.0] * len(row))
    for sweep in range(SWEEPS):
        down = sweep % 2 == 0
        for row in rows if down else reversed(rows):
            wanted = {id(p): _mean(p, p.above if down else p.below) for p in row}
            row.sort(key=lambda place: wanted[id(place)])
            _spread(row, [wanted[id(place)] for place in row])


def _mean(place: Place, others: list[Place]) -> float:
    return fmean(other.x for other in others) if others else place.x


def _spread(row: list[Place], wanted: list[float]) -> None:
    """As near to where they want to be as a row without overlaps allows, all moved alike."""
    right = float("-inf")
    for place, x in zip(row, wanted, strict=True):
        place.x = max(x, right + place.width / 2)
        right = place.x + place.width / 2 + GAP_X
    shift = fmean(x - place.x for place, x in zip(row, wanted, strict=True))
    for place in row:
        place.x += shift


def _stack(rows: list[list[Place]]) -> float:
    """One rank below the other; boxes in the middle of theirs, lanes from its top to its bottom."""
    top = 0.0
    for row in rows:
        height = max(place.height for place in row)
        for place in row:
            if place.box is None:
                place.height = height
            place.ceiling, place.floor = top, top + height
            place.top = top + (height - place.height) / 2
        top += height + GAP_Y
    return top - GAP_Y
