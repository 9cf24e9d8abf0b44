"""The hardest and the easiest tasks as pictures, with what the winner said of each query."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import plotly.graph_objects as go

from autometa.report.plots import BLUE, VERMILION, Plot, style
from autometa.report.text import score_text
from autometa.search.study import MAXIMIZE

MOST_CLASSES_TOLD = 5
TILE, GAP, LABEL, HEAD = 44, 8, 64, 20
"""Pixels on the page: of a tile's width, between tiles, and beside and above them."""
BELOW = 20
"""Room for what a query was taken for."""


@dataclass(frozen=True)
class Tile:
    """An image of a sheet on the page.

    Attributes:
        left, top: Its place on the page's drawing; ``column`` and ``row`` are those in the sheet.
        taken: The class (from 1) that a query was wrongly taken for.
    """

    left: int
    top: int
    column: int
    row: int
    query: bool
    taken: int | None = None


@dataclass(frozen=True)
class Sheet:
    """A drawing of an episode's images; all lengths in pixels.

    Attributes:
        png: All images, base64; ``pixels`` are its width and height, ``tile`` those of each.
        shown: Width and height of each on the page.
        classes: (top, name) of the rows.
        queries_left: Where the columns of queries begin.
    """

    png: str
    pixels: tuple[int, int]
    tile: tuple[int, int]
    shown: tuple[int, int]
    width: int
    height: int
    classes: tuple[tuple[int, str], ...]
    queries_left: int
    tiles: tuple[Tile, ...]


@dataclass(frozen=True)
class Picture:
    """An episode: a drawing of its images, or a figure of its curve.

    Attributes:
        alt: All that it shows, in words.
    """

    name: str
    title: str
    alt: str
    sheet: Sheet | None = None
    plot: Plot | None = None


def pictures(episodes: Iterable[dict[str, Any]], tasks: int, direction: str) -> Iterator[Picture]:
    """Of those episodes that can be shown; ``tasks`` is how many they are the extremes of."""
    places: dict[str, int] = {}
    for episode in episodes:
        kind = episode["kind"]
        places[kind] = place = places.get(kind, 0) + 1
        nth = "" if place == 1 else "second " if place == 2 else f"{place}th "
        score = score_text(episode["score"], None, direction)
        what = "accuracy" if direction == MAXIMIZE else "mean squared error"
        title = f"The {nth}{kind} of {tasks:,} tasks: {what} {score}"
        name = f"closer-{kind}-{place}"
        if "sheet" in episode:
            alt = f"{title}. {classes_text(episode['classes'])}"
            yield Picture(name, title, alt, sheet=laid_out(episode["sheet"]))
        elif "queries" in episode:
            plot = curve_plot(name, title, episode)
            yield Picture(name, title, plot.alt, plot=plot)


def classes_text(classes: list[dict[str, Any]]) -> str:
    """``Class 2: 3 of 15 right, others taken for 4 (7) and 1 (5).``, the worst classes first."""
    shares = [each["right"] / max(each["queries"], 1) for each in classes]
    order = sorted(range(len(classes)), key=lambda i: shares[i])
    told = [_class_text(i + 1, classes[i]) for i in order[:MOST_CLASSES_TOLD]]
    rest = order[MOST_CLASSES_TOLD:]
    if rest:
        right, asked = (sum(classes[i][key] for i in rest) for key in ("right", "queries"))
        told.append(f"Of the other {len(rest)} classes: {right} of {asked} right.")
    return " ".join(told)


def _class_text(number: int, known: dict[str, Any]) -> str:
    text = f"Class {number}: {known['right']} of {known['queries']} right"
    taken = [f"{label + 1} ({times})" for label, times in known["taken"]]
    return f"{text}, others taken for {', '.join(taken)}." if taken else f"{text}."


def laid_out(sheet: dict[str, Any]) -> Sheet:
    """Where each image and its label go: a row a class, queries apart from support images."""
    shots, rows = sheet["shots"], sheet["rows"]
    height = round(TILE * sheet["height"] / sheet["width"])
    step_x, step_y = TILE + GAP, height + BELOW
    apart = LABEL + shots * step_x + 2 * GAP
    tiles = []
    for row, answers in enumerate(rows):
        top = HEAD + row * step_y
        tiles += [Tile(LABEL + i * step_x, top, i, row, query=False) for i in range(shots)]
        for index, answer in enumerate(answers):
            taken = None if answer == row else answer + 1
            tiles.append(
                Tile(apart + index * step_x, top, shots + index, row, query=True, taken=taken)
            )
    columns = max(map(len, rows))
    return Sheet(
        sheet["png"],
        ((shots + columns) * sheet["width"], len(rows) * sheet["height"]),
        (sheet["width"], sheet["height"]),
        (TILE, height),
        apart + columns * step_x,
        HEAD + len(rows) * step_y,
        tuple((HEAD + row * step_y, f"class {row + 1}") for row in range(len(rows))),
        apart,
        tuple(tiles),
    )


def curve_plot(name: str, title: str, episode: dict[str, Any]) -> Plot:
    """Support points, queries, and what was predicted for them."""
    queries = sorted(episode["queries"])
    x, truth, predicted = (list(column) for column in zip(*queries, strict=True))
    support = sorted(episode["support"])
    figure = go.Figure()
    figure.add_scatter(
        x=x, y=predicted, mode="lines+markers", name="predicted", line={"color": BLUE, "width": 2}
    )
    figure.add_scatter(
        x=x, y=truth, mode="markers", name="queries", marker={"color": VERMILION, "symbol": "x"}
    )
    figure.add_scatter(
        x=[point[0] for point in support],
        y=[point[1] for point in support],
        mode="markers",
        name="support set",
        marker={"color": BLUE, "symbol": "circle-open", "size": 11},
    )
    style(figure, title, "x", "y")
    figure.update_layout(height=320)
    worst = max(queries, key=lambda query: abs(query[1] - query[2]))
    alt = (
        f"{title}. {len(support)} support points and {len(queries)} queries; the worst is at "
        f"x = {worst[0]:.3g}, where {worst[2]:.3g} was predicted for {worst[1]:.3g}."
    )
    return Plot(name, title, figure, alt)
