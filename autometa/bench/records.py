"""A table of real trials: each configuration with its learning curve, in one compressed file."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from autometa.errors import StudyError
from autometa.search.folder import StudyFolder, make_out, write_bytes_atomically, write_json

CURVES = "curves.jsonl.gz"
ABOUT = "about.json"


@dataclass(frozen=True)
class Record:
    """One trial, trained to the full budget or until it diverged.

    Attributes:
        origin: ``random``, ``tpe``, or ``again``: an earlier configuration with another seed.
        params: Optuna's name → value.
        candidate: What the parameters stand for: learner, hyper-parameters, architecture, sizes.
        iterations: Meta-iterations of the scorings.
        scores: On meta-validation tasks, at each.
        seconds: CPU time up to each, scoring included.
    """

    number: int
    origin: str
    seed: int
    params: Mapping[str, Any]
    candidate: Mapping[str, Any]
    end: str
    iterations: tuple[int, ...]
    scores: tuple[float, ...]
    ci95: tuple[float, ...]
    seconds: tuple[float, ...]


def load_records(folder: Path) -> list[Record]:
    """The records of a folder, by number; none where it has none yet.

    Raises:
        StudyError: The file is damaged.
    """
    path = folder / CURVES
    try:
        lines = gzip.decompress(path.read_bytes()).decode().splitlines()
        return [_record(json.loads(line)) for line in lines]
    except FileNotFoundError:
        return []
    except (OSError, EOFError, ValueError, TypeError) as error:
        raise StudyError(f"{path} is damaged ({error}): remove it, and record again") from None


def _record(values: dict[str, Any]) -> Record:
    curves = {key: tuple(value) for key, value in values.items() if isinstance(value, list)}
    return Record(**values | curves)


def save_records(folder: Path, records: Iterable[Record]) -> None:
    """All records, by number; the same records make the same bytes."""
    ordered = sorted(records, key=lambda record: record.number)
    text = "".join(json.dumps(asdict(record), allow_nan=False) + "\n" for record in ordered)
    write_bytes_atomically(folder / CURVES, gzip.compress(text.encode(), mtime=0))


def check_same(folder: Path, about: dict[str, Any]) -> None:
    """Note what is recorded here, or see that it is what was recorded before.

    Raises:
        StudyError: The folder can't be made, or holds records of something else.
    """
    make_out(folder)
    earlier = StudyFolder(folder).read_json(folder / ABOUT)
    for key in about if earlier else ():
        if earlier and earlier.get(key) != about[key]:
            raise StudyError(
                f"{str(folder)!r} holds records of another {key}: choose another folder with --out"
            )
    write_json(folder / ABOUT, about)
