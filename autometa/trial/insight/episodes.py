"""The hardest and the easiest tasks: what was to be told apart, and what the learner said."""

from __future__ import annotations

import base64
import io
from collections import Counter
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION
from autometa.trial.insight.answers import Answers, Exam

EACH = 2
MOST_CLASSES, MOST_SHOTS, MOST_QUERIES = 10, 5, 10
"""Shown of an episode: rows, and columns of both kinds."""
MOST_PIXELS = 32
"""Of a side of an image: a page holds all of them."""
HARDEST, EASIEST = "hardest", "easiest"


def episodes(found: Answers, exam: Exam, problem: str) -> list[dict[str, Any]]:
    """The hardest tasks, hardest first, and the easiest ones, easiest first.

    Each has ``kind``, ``task`` (its number, from 0), ``score`` and ``loss``. Classes have
    ``classes`` (see :func:`_classes`), and where inputs are images a ``sheet`` (:func:`_sheet`);
    a regression from a number to a number has ``support`` points [x, y] and ``queries``
    [x, y, predicted y].
    """
    chosen = extremes(found, problem)
    tasks = _drawn(exam, {index for _, index in chosen})
    return [
        {
            "kind": kind,
            "task": index,
            "score": float(found.scores[index]),
            "loss": float(found.losses[index]),
            **_shown(tasks[index], found.predictions[index], problem),
        }
        for kind, index in chosen
    ]


def extremes(found: Answers, problem: str) -> list[tuple[str, int]]:
    """(kind, task): by the score, of equals by the loss; no task is both."""
    sign = 1 if problem == CLASSIFICATION else -1
    keys = zip((sign * found.scores).tolist(), (-found.losses).tolist(), strict=True)
    known = list(keys)
    order = sorted(range(len(known)), key=lambda index: known[index])
    each = min(EACH, len(order) // 2)
    ends = ((HARDEST, order[:each]), (EASIEST, order[::-1][:each]))
    return [(kind, index) for kind, indices in ends for index in indices]


def _drawn(exam: Exam, wanted: set[int]) -> dict[int, Task]:
    """The tasks of these numbers, drawn once more: all of them at once may be too much memory."""
    found, number = dict[int, Task](), 0
    for batch in exam.drawn():
        for task in batch.unbind():
            if number in wanted:
                found[number] = task
            number += 1
    return found


def _shown(task: Task, predicted: Tensor, problem: str) -> dict[str, Any]:
    if problem == CLASSIFICATION:
        shown = {"classes": _classes(task, predicted)}
        return shown | ({"sheet": _sheet(task, predicted)} if _is_image(task.query_x) else {})
    if task.query_x.shape[1:] == task.query_y.shape[1:] == (1,):
        support = torch.cat([task.support_x, task.support_y], 1)
        queries = torch.cat([task.query_x, task.query_y, predicted.to(task.query_x)], 1)
        return {"support": support.tolist(), "queries": queries.tolist()}
    return {}


def _is_image(x: Tensor) -> bool:
    return x.dim() == 4 and x.shape[1] in (1, 3)


def _classes(task: Task, predicted: Tensor) -> list[dict[str, Any]]:
    """For each class its ``queries``, how many are ``right``, and what the rest is ``taken`` for.

    ``taken`` are pairs of a class and how often, the most frequent first. Classes count from 0.
    """
    truth, told, described = task.query_y.cpu(), predicted.cpu(), []
    for label in range(task.ways):
        said = told[truth == label].tolist()
        wrong = Counter(each for each in said if each != label)
        right = len(said) - wrong.total()
        described.append({"queries": len(said), "right": right, "taken": wrong.most_common()})
    return described


def _sheet(task: Task, predicted: Tensor) -> dict[str, Any]:
    """Images of an episode in one PNG: a row a class, its support images, then its queries.

    ``png`` is base64; ``height`` and ``width`` are those of a tile; ``shots`` counts the columns
    of support images; ``rows`` has what each shown query was taken for.
    """
    labels = range(min(task.ways, MOST_CLASSES))
    support = [(task.support_y == label).nonzero()[:MOST_SHOTS, 0] for label in labels]
    queries = [(task.query_y == label).nonzero()[:MOST_QUERIES, 0] for label in labels]
    shots, asked = max(map(len, support)), max(map(len, queries))
    rows = [
        torch.cat([_padded(task.support_x[s], shots), _padded(task.query_x[q], asked)])
        for s, q in zip(support, queries, strict=True)
    ]
    tiles = torch.stack([_small(row) for row in rows])
    return {
        "png": _png(tiles),
        "height": tiles.shape[-2],
        "width": tiles.shape[-1],
        "shots": shots,
        "rows": [predicted[q.cpu()].tolist() for q in queries],
    }


def _padded(images: Tensor, count: int) -> Tensor:
    """Blank images in the place of those that a class has fewer of than others."""
    blank = images.new_zeros(count - len(images), *images.shape[1:])
    return torch.cat([images, blank])


def _small(images: Tensor) -> Tensor:
    """[n, C, H, W] on the CPU, no side longer than :data:`MOST_PIXELS`."""
    images, (height, width) = images.float().cpu(), images.shape[-2:]
    longest = max(height, width)
    if longest <= MOST_PIXELS:
        return images
    size = [max(1, round(side * MOST_PIXELS / longest)) for side in (height, width)]
    return F.interpolate(images, size=size, mode="bilinear", antialias=True)


def _png(tiles: Tensor) -> str:
    """A sheet of tiles [rows, columns, C, H, W] in [0, 1], as base64."""
    rows, columns, channels, height, width = tiles.shape
    sheet = tiles.permute(0, 3, 1, 4, 2).reshape(rows * height, columns * width, channels)
    pixels = (sheet.clamp(0, 1) * 255).round().to(torch.uint8).numpy()
    image = Image.fromarray(np.ascontiguousarray(pixels[..., 0] if channels == 1 else pixels))
    image.save(out := io.BytesIO(), format="PNG", optimize=True)
    return base64.b64encode(out.getvalue()).decode()
