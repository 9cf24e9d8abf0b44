"""What a study's program has registered, written into its folder so that workers have it too."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from io import BytesIO
from typing import Any

import cloudpickle
import torch

from autometa.config import StudyConfig
from autometa.errors import ConfigError
from autometa.search.folder import MEMBERS
from autometa.trial.members import REGISTRIES


class _Pickler(cloudpickle.Pickler):  # type: ignore[misc]
    """By content what a script or notebook defines, by name what a module does.

    A function that uses torch and has a variable ``classes`` or ``ops`` is taken to need torch's
    submodule of that name, which is a module that can't be pickled as others are.
    """

    dispatch_table = cloudpickle.Pickler.dispatch_table.new_child(
        dict.fromkeys(
            (type(torch.classes), type(torch.ops)), lambda it: (import_module, (it.__name__,))
        )
    )


def registered(config: StudyConfig) -> dict[tuple[str, str], Any]:
    """(kind, name) → what the configuration names and this process alone knows."""
    return {
        (kind, name): REGISTRIES[kind].registered[name]
        for kind, name in sorted(set(_named(config)))
        if name in REGISTRIES[kind].registered
    }


def _named(config: StudyConfig) -> Iterator[tuple[str, str]]:
    yield "tasks", config.data.name
    for part in (config.baseline, config.supernet):
        if part:
            yield "learner", part.learner
        if part and part.backbone:
            yield "backbone", part.backbone
    yield from (("learner", name) for name in config.space.learners)
    yield from (("backbone", name) for name in config.space.backbones)


def pickled(config: StudyConfig) -> dict[str, bytes]:
    """File name → content of what :func:`registered` gives.

    Raises:
        ConfigError: A member can't be sent to another process.
    """
    files = {}
    for (kind, name), member in registered(config).items():
        try:
            _Pickler(content := BytesIO()).dump(member)
        except Exception as error:  # whatever a value in it raises
            raise ConfigError(
                f"{kind} {name!r} can't be sent to the search's workers: {error}"
            ) from None
        files[f"{kind}.{name}.pkl"] = content.getvalue()
    return files


def folder_of(config: StudyConfig) -> str | None:
    """Where a study's trials find its members; None where it brings none."""
    return str((config.folder / MEMBERS).absolute()) if registered(config) else None
