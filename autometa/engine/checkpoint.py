"""Checkpoints: written whole or not at all, read without running any code of theirs."""

from __future__ import annotations

import os
import pickle
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from autometa.errors import StudyError


def save(path: Path, state: Mapping[str, Any]) -> None:
    """Write tensors and plain types to ``path``; a reader sees the old file or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            torch.save(dict(state), file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def load(path: Path, *, device: torch.device | str = "cpu") -> dict[str, Any]:
    """What :func:`save` wrote, its tensors on ``device``.

    Raises:
        StudyError: There is no such file, or it is damaged or of another kind.
    """
    try:
        state: Any = torch.load(path, map_location=device, weights_only=True)
    except FileNotFoundError:
        raise StudyError(f"checkpoint {path} doesn't exist") from None
    except (OSError, EOFError, KeyError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise StudyError(
            f"checkpoint {path} can't be read ({_first_line(error)}): delete it"
        ) from error
    if not isinstance(state, dict):
        raise StudyError(f"checkpoint {path} holds a {type(state).__name__}, but must hold a dict")
    return state


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
