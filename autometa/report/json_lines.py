"""Events as JSON, one object a line, for programs that start or follow a search."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any, Self

from autometa.search.events import (
    Event,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.study import METRICS

NAMES = {
    TrialStarted: "trial_started",
    TrialReported: "trial_reported",
    TrialEnded: "trial_ended",
    Phase: "phase",
}


class JsonView:
    """Writes a line for each event, at once.

    Every object has ``event`` and ``time`` (seconds since 1970); NaN and infinities are null.
    """

    def __init__(self, file: IO[str], clock: Callable[[], float] = time.time) -> None:
        self._file = file
        self._clock = clock

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Everything is written already."""

    def __call__(self, event: Event) -> None:
        if isinstance(event, SearchStarted):
            self._write("search_started", 0.0, _started(event))
            return
        fields = asdict(event)
        self._write(NAMES[type(event)], fields.pop("ago_s", 0.0), fields)

    def ended(self, folder: Path | None, result: dict[str, Any] | None) -> None:
        """The last line: without a result the search was stopped, and without a folder before it.

        Args:
            folder: Of the study.
        """
        place = {"folder": str(folder) if folder else None}
        if result is None:
            self._write("stopped", 0.0, place)
        else:
            self._write("result", 0.0, place | {"result": result})

    def _write(self, event: str, ago_s: float, fields: dict[str, Any]) -> None:
        told = {"event": event, "time": round(self._clock() - ago_s, 3)} | fields
        self._file.write(json.dumps(finite(told), allow_nan=False) + "\n")
        self._file.flush()


def _started(event: SearchStarted) -> dict[str, Any]:
    return {
        "name": event.config.name,
        "folder": str(event.config.folder),
        "direction": event.direction,
        "metric": METRICS[event.direction],
        "ended": event.ended,
        "dashboard": event.links.dashboard,
        "config": event.config.public(),
    }


def finite(value: Any) -> Any:
    """The same value with None in the place of NaN and infinities, which JSON doesn't have."""
    if isinstance(value, dict):
        return {key: finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [finite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
