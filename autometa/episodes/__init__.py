"""Families of few-shot tasks: data sets (one file each) and the samplers of their episodes.

    from autometa.episodes import EpisodeShape, load, stream

    glyphs = load("glyphs", {"seed": 1})
    source = glyphs.source("train", EpisodeShape(ways=5, shots=1, queries=15))
    batch = source.sample(32, stream(0, "train"))      # support_x [32, 5, 1, 28, 28], …

A member of :data:`DATASETS` is a frozen dataclass: its fields are the data set's options (each
with ``metadata["meaning"]``), its method ``load(device)`` makes the :class:`Dataset`. Importing
this package costs no torch import.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, fields
from importlib import import_module
from typing import TYPE_CHECKING, Any

from autometa.errors import DataError, suggestion
from autometa.registry import Registry

if TYPE_CHECKING:
    import torch

    from .dataset import Dataset, EpisodeShape
    from .task import SPLITS, Task, TaskSource, stream

__all__ = [
    "DATASETS",
    "SPLITS",
    "Dataset",
    "EpisodeShape",
    "Task",
    "TaskSource",
    "load",
    "options_type",
    "stream",
]

DATASETS = Registry(
    "data set",
    "autometa.datasets",
    {
        "glyphs": "autometa.episodes.glyphs:Options",
        "imagefolder": "autometa.episodes.imagefolder:Options",
        "omniglot": "autometa.episodes.omniglot:Options",
        "sinusoid": "autometa.episodes.sinusoid:Options",
    },
)

_LAZY = {
    "SPLITS": ".task",
    "Dataset": ".dataset",
    "EpisodeShape": ".dataset",
    "Task": ".task",
    "TaskSource": ".task",
    "stream": ".task",
}


def options_type(name: str) -> type[Any]:
    """The frozen dataclass of a data set's options.

    Raises:
        UnknownNameError: No data set has this name.
    """
    return DATASETS.load(name)  # type: ignore[no-any-return]


def load(
    name: str, options: Mapping[str, Any] | None = None, *, device: torch.device | str = "cpu"
) -> Dataset:
    """The data set ``name`` with these options, its tensors on ``device``.

    Raises:
        UnknownNameError: No data set has this name.
        DataError: An option is unknown, missing or out of range, or the data can't be read.
    """
    kind, given = options_type(name), dict(options or {})
    known = {field.name: field for field in fields(kind)}
    for key in given:
        if key not in known:
            raise DataError(
                f"option {key!r} of the data set {name!r} is unknown: {suggestion(key, known)}"
            )
    for key, field in known.items():
        required = field.default is MISSING and field.default_factory is MISSING
        if required and key not in given:
            meaning = field.metadata.get("meaning", "it has no default")
            raise DataError(f"the data set {name!r} needs the option {key!r}: {meaning}")
    return kind(**given).load(device=device)  # type: ignore[no-any-return]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_LAZY[name], __name__), name)
