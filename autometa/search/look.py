"""A closer look at the winner, once the result is written: it decides nothing and can lose nothing.

The tasks are those that confirmed the winner; no further meta-test task is seen.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import ray

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.events import Observer, Phase
from autometa.search.finalists import CONFIRMATION
from autometa.search.folder import StudyFolder, write_atomically
from autometa.search.tuner import trial_resources
from autometa.search.worker import reason_of, use_threads
from autometa.trial import TrialSpec
from autometa.trial.insight import View, insight

TITLE = "a closer look"
MOST_TASKS = 200
"""Whole batches of a scoring, so that the tasks are the same ones."""


def look_closer(folder: StudyFolder, config: StudyConfig, observer: Observer) -> None:
    """Write ``insight.json``, unless the winner has one; where it fails, the file has ``failed``.

    The study has a result, and Ray runs.
    """
    result = folder.read_result()
    assert result is not None
    winner = result["winner"]
    whose = {"name": winner["name"], "seed": winner["exported_seed"]}
    if _known(folder, whose):
        return
    observer(Phase(TITLE, 0, 1, winner["name"]))
    view = View(*CONFIRMATION, min(config.finalists.tasks, MOST_TASKS))
    try:
        text = _text(whose | ray.get(_sent(folder, config, winner, view)))
    except Exception as error:  # of a worker that died, say: the result stands without this
        text = _text(whose | {"failed": reason_of(error)})
    write_atomically(folder.insight, text)
    observer(Phase(TITLE, 1, 1, winner["name"]))


def _known(folder: StudyFolder, whose: dict[str, Any]) -> bool:
    """Whether it is written already, of this winner; a damaged file is written anew."""
    try:
        known = folder.read_json(folder.insight)
    except StudyError:
        return False
    return known is not None and whose.items() <= known.items()


def _text(told: dict[str, Any]) -> str:
    """Compact: it has numbers of every query."""
    return json.dumps(told, allow_nan=False, separators=(",", ":")) + "\n"


def _sent(folder: StudyFolder, config: StudyConfig, winner: dict[str, Any], view: View) -> Any:
    resources = trial_resources(config)
    remote = ray.remote(num_cpus=resources["CPU"], num_gpus=resources.get("GPU", 0))(_look)
    named = remote.options(name=f"{TITLE} {winner['name']}")
    checkpoint = str((folder.path / winner["checkpoint"]).absolute())
    return named.remote(winner["spec"], checkpoint, view, resources["CPU"])


def _look(spec: dict[str, Any], checkpoint: str, view: View, cpus: float) -> dict[str, Any]:
    use_threads(cpus)
    try:
        return insight(TrialSpec.from_json(spec), Path(checkpoint), view)
    except Exception as error:  # told as it is, not as Ray passes it on
        return {"failed": reason_of(error)}
