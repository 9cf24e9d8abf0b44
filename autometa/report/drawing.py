"""A network as an inline SVG, which takes its colours from the page."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from markupsafe import Markup, escape

from autometa.backbones import BACKBONES
from autometa.backbones.graph import Box, Drawing, Layer, drawing_of
from autometa.errors import UserError
from autometa.report.layout import Layout, Place, laid_out

LINE, PADDING, CHARACTER, LEAST_WIDTH = 16.0, 10.0, 6.6, 96.0
MARGIN = 2.0
SHRINKS = 0.7
UNKNOWN = "The study doesn't say what shape its inputs have, so the network can't be drawn."


@dataclass(frozen=True)
class Picture:
    """A network to look at.

    Attributes:
        svg: None where there is none; ``alt`` says why.
        alt: What it shows, for readers who can't see it.
        layers: One row a layer: its name, what it does, shape of its output, parameters.
    """

    svg: Markup | None
    alt: str
    note: str = ""
    layers: tuple[tuple[str, str, str, str], ...] = ()


def network_picture(candidate: dict[str, Any], in_shape: tuple[int, ...] | None) -> Picture:
    """The backbone of a candidate, for inputs of this shape."""
    if not in_shape:
        return Picture(None, UNKNOWN)
    try:
        space = BACKBONES.load(candidate["backbone"])()
        drawing = drawing_of(space.build(candidate["architecture"], in_shape))
    except UserError as error:  # a space of the user's own that isn't there any more
        return Picture(None, f"The network can't be drawn: {error}.")
    layers = [layer for box in drawing.boxes for layer in box.layers]
    return Picture(svg(drawing), _alt(drawing), _note(drawing), tuple(map(_row, layers)))


def svg(drawing: Drawing) -> Markup:
    """The drawing itself; its height is as many pixels as it needs."""
    texts = [_texts(box) for box in drawing.boxes]
    sizes = [_size(lines) for lines in texts]
    layout = laid_out([box.sources for box in drawing.boxes], sizes)
    width, height = layout.width + 2 * MARGIN, layout.height + 2 * MARGIN
    style = f"width:{width:.0f}px;min-width:{SHRINKS * width:.0f}px"
    boxes = [_box(p, lines) for p, lines in zip(layout.boxes, texts, strict=True)]
    return Markup(
        f'<svg class="network" viewBox="{-MARGIN:g} {-MARGIN:g} {width:.0f} {height:.0f}" '
        f'style="{style}" aria-hidden="true">{_edges(layout)}{"".join(boxes)}</svg>'
    )


def shape_text(shape: tuple[int, ...]) -> str:
    """``64 × 14 × 14``."""
    return " × ".join(map(str, shape))


def _texts(box: Box) -> list[str]:
    """Name, layers, what comes out; a function without a name is named by what it does."""
    count = [f"{box.parameters:,} parameters"] if box.parameters else []
    told = [layer.told for layer in box.layers]
    if box.name in ("", *told):
        first, told = told[0], told[1:]
    else:
        first = box.name
    return [first, *told, *count, f"→ {shape_text(box.shape)}"]


def _size(lines: list[str]) -> tuple[float, float]:
    width = max(LEAST_WIDTH, CHARACTER * max(map(len, lines)) + 2 * PADDING)
    return width, LINE * len(lines) + PADDING


def _box(place: Place, lines: list[str]) -> str:
    x, left = f"{place.x:.1f}", place.x - place.width / 2
    kinds = ["name", *["layer"] * (len(lines) - 2), "out"]
    heights = [f"{place.top + LINE * (i + 1) + 1:.1f}" for i in range(len(lines))]
    texts = "".join(
        f'<text x="{x}" y="{y}" class="{kind}">{escape(line)}</text>'
        for y, kind, line in zip(heights, kinds, lines, strict=True)
    )
    return (
        f'<rect x="{left:.1f}" y="{place.top:.1f}" width="{place.width:.1f}" '
        f'height="{place.height:.1f}" rx="6"/>{texts}'
    )


def _edges(layout: Layout) -> str:
    return "".join(f'<path d="{_way(edge)}"/>{_head(edge[-1])}' for edge in layout.edges)


def _way(edge: list[Place]) -> str:
    """Straight within a rank, and in curves from one to the next."""
    path = f"M{edge[0].x:.1f} {edge[0].bottom:.1f}"
    for upper, lower in pairwise(edge):
        middle = (upper.floor + lower.ceiling) / 2
        path += f"V{upper.floor:.1f}C{upper.x:.1f} {middle:.1f} {lower.x:.1f} {middle:.1f} "
        path += f"{lower.x:.1f} {lower.ceiling:.1f}"
    return f"{path}V{edge[-1].top:.1f}"


def _head(place: Place) -> str:
    return f'<path class="head" d="M{place.x:.1f} {place.top:.1f}l-4 -7h8z"/>'


def _row(layer: Layer) -> tuple[str, str, str, str]:
    return layer.name or layer.told, layer.told, shape_text(layer.shape), f"{layer.parameters:,}"


def _alt(drawing: Drawing) -> str:
    first, *_, last = drawing.boxes
    layers = sum(len(box.layers) for box in drawing.boxes) - 1
    total = sum(box.parameters for box in drawing.boxes)
    return (
        f"The network from inputs of {shape_text(first.shape)} to {shape_text(last.shape)} "
        f"features: {layers} layers in {len(drawing.boxes) - 1} boxes, {total:,} parameters."
    )


def _note(drawing: Drawing) -> str:
    if drawing.traced:
        return "Layers that only follow each other share a box; → is what comes out of it."
    return "Which layer reads which can't be told of this network: they stand as they run."
