"""The Ray side of a trial: a thin shell over :func:`autometa.trial.run_trial`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from ray import tune
from ray._raylet import setproctitle  # type: ignore[attr-defined]
from ray.tune import PlacementGroupFactory

from autometa.search.gauges import TrialGauges
from autometa.search.study import FAILED
from autometa.trial import TrialReport, TrialSpec, run_trial


class TrialWorker(tune.Trainable):
    """One actor that runs trial after trial; the data set stays loaded between them.

    Its process is titled after the trial it runs, which is what Ray's dashboard lists.
    """

    @classmethod
    def default_resource_request(cls, config: dict[str, Any]) -> PlacementGroupFactory:
        return _request(*config["resources"].items())

    def setup(self, config: dict[str, Any]) -> None:
        self._gauges = TrialGauges()
        self.reset_config(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._name = new_config["name"]
        use_threads(new_config["resources"]["CPU"])
        spec = TrialSpec.from_json(new_config["spec"])
        checkpoint, measure = Path(new_config["checkpoint"]), new_config["measure"]
        self._batch = spec.hyper["meta_batch"]
        self._gauges.begin()
        self._reports: Iterator[TrialReport] = run_trial(spec, checkpoint, measure)
        return True

    def step(self) -> dict[str, Any]:
        setproctitle(f"ray::{self._name}")
        try:
            report = next(self._reports)
        except Exception as error:  # a trial's failure is a result of the search, not its end
            return failed(error) | {"done": True}
        self._gauges.show(self._name, self._batch * report.iteration, report.seconds)
        return told(report) | {"done": report.end is not None}

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Nothing: the trial writes its own checkpoint at every report."""

    def load_checkpoint(self, checkpoint: dict[str, Any] | None) -> None:
        """Nothing: the trial reads its own checkpoint when it starts."""

    def __repr__(self) -> str:
        return "autometa trial worker"


@lru_cache
def _request(*resources: tuple[str, float]) -> PlacementGroupFactory:
    """One for all trials, which Tune keeps to the end."""
    return PlacementGroupFactory([dict(resources)])


NOTHING = {"iteration": 0, "score": math.nan, "ci95": math.nan, "seconds": 0.0}


def told(report: TrialReport) -> dict[str, Any]:
    """A report as plain values."""
    # Tune would flatten a mapping.
    return vars(report) | {"measures": list(report.measures.items())}


def failed(error: BaseException) -> dict[str, Any]:
    """The report of a trial that can't go on."""
    return {"end": FAILED, "reason": reason_of(error), **NOTHING}


def use_threads(cpus: float) -> None:
    """As many threads as CPUs: sums depend on their number, so it must be the same everywhere."""
    torch.set_num_threads(max(1, int(cpus)))


def reason_of(error: BaseException) -> str:
    """The last line of an exception, with its type."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no message'}"
