"""A data set at a glance: a contact sheet of its classes, or a few of its curves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from autometa.errors import DataError

from . import fonts
from .cache import replacing
from .dataset import Dataset, EpisodeShape
from .images import ImageDataset, ImageSplit
from .task import SPLITS, stream

_TILE, _GAP, _MARGIN, _LABEL, _HEAD = 64, 6, 24, 240, 56
_INK, _GREY, _PAPER = "#1b1f24", "#6e7781", "#ffffff"


def save_picture(
    dataset: Dataset, path: Path, *, classes: int = 5, instances: int = 12, seed: int = 0
) -> None:
    """Write a PNG: rows of a few classes per split, or curves of a regression family.

    Args:
        dataset: Any data set of this package.
        path: Where to; an existing file is replaced once the new one is complete.
        classes: Rows of each split.
        instances: Images in a row.
        seed: Which classes and curves are shown.

    Raises:
        DataError: The file can't be written, or the data set isn't one that can be shown.
    """
    if path.is_dir():
        raise DataError(f"the picture {str(path)!r} is a folder: name a file, as in data.png")
    try:
        with replacing(path) as temporary:
            if isinstance(dataset, ImageDataset):
                _sheet(dataset, classes, instances, seed).save(temporary, format="PNG")
            elif dataset.problem == "regression" and dataset.input_shape == (1,):
                _curves(dataset, temporary, seed)
            else:
                raise DataError(f"{dataset.name} has inputs that can't be shown as a picture")
    except OSError as error:
        raise DataError(f"the picture {path} can't be written: {error.strerror}") from error


def _sheet(dataset: ImageDataset, classes: int, instances: int, seed: int) -> Image.Image:
    shown = {split: min(classes, len(dataset.classes(split))) for split in SPLITS}
    columns = min(instances, max(max(part.counts) for part in dataset.splits.values()))
    height = 2 * _MARGIN + sum(_HEAD + rows * (_TILE + _GAP) for rows in shown.values())
    width = 2 * _MARGIN + _LABEL + columns * (_TILE + _GAP) - _GAP
    sheet = Image.new("RGB", (width, height), _PAPER)
    y = _MARGIN
    for split in SPLITS:
        _heading(sheet, dataset, split, y)
        y += _HEAD
        part = dataset.splits[split]
        order = torch.randperm(len(part.classes), generator=stream(seed, f"picture/{split}"))
        for index in sorted(order[: shown[split]].tolist(), key=lambda i: part.groups[i]):
            _row(sheet, part, index, y, columns)
            y += _TILE + _GAP
    return sheet


def _heading(sheet: Image.Image, dataset: ImageDataset, split: str, y: int) -> None:
    row = next(row for row in dataset.summary() if row["split"] == split)
    groups = f" in {row['groups']} groups" if row["groups"] > 1 else ""
    draw = ImageDraw.Draw(sheet)
    draw.text((_MARGIN, y + 14), f"{dataset.name} · {split}", fill=_INK, font=_font(20))
    text = f"{row['classes']:,} classes{groups}, {row['images']:,} images"
    place = (sheet.width - _MARGIN, y + 20)
    draw.text(place, text, fill=_GREY, font=_font(14), anchor="ra")


def _row(sheet: Image.Image, part: ImageSplit, index: int, y: int, columns: int) -> None:
    draw, middle = ImageDraw.Draw(sheet), y + _TILE // 2
    lines = [(part.classes[index], _INK), (part.groups[index], _GREY)]
    lines = lines[:1] if len(set(part.groups)) == 1 else lines
    for number, (text, colour) in enumerate(lines):
        place = (_MARGIN, middle + 19 * number - 9 * (len(lines) - 1))
        draw.text(place, _shortened(text), fill=colour, font=_font(13), anchor="lm")
    first, grey = int(part.starts[index]), part.images.shape[1] == 1
    for column in range(min(columns, part.counts[index])):
        pixels = part.images[first + column].permute(1, 2, 0).cpu().numpy()
        tile = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if grey else pixels))
        tile = tile.resize((_TILE, _TILE), Image.Resampling.LANCZOS).convert("RGB")
        sheet.paste(tile, (_MARGIN + _LABEL + column * (_TILE + _GAP), y))


def _shortened(text: str) -> str:
    """Cut in the middle to what the label column holds."""
    font, room = _font(13), _LABEL - 16
    while font.getlength(text) > room:
        middle = len(text) // 2
        text = f"{text[: middle - 1].rstrip('…')}…{text[middle + 1 :].lstrip('…')}"
    return text


def _font(points: int) -> ImageFont.FreeTypeFont:
    return ImageFont.truetype(fonts.faces()[0].path, points)


def _curves(dataset: Dataset, path: Path, seed: int) -> None:
    from matplotlib.figure import Figure

    shape = EpisodeShape(ways=1, shots=10, queries=400)
    batch = dataset.source("train", shape, device="cpu").sample(6, stream(seed, "picture"))
    axes = (figure := Figure(figsize=(9, 4.5), dpi=120, layout="constrained")).add_subplot()
    for number, task in enumerate(batch.unbind()):
        order = task.query_x[:, 0].argsort()
        axes.plot(task.query_x[order, 0], task.query_y[order, 0], color=f"C{number}", lw=1.5)
        axes.plot(task.support_x[:, 0], task.support_y[:, 0], "o", color=f"C{number}", ms=5)
    axes.set(xlabel="x", ylabel="y", title=f"{dataset.name}: six tasks, ten support points each")
    axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, format="png")
