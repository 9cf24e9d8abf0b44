"""The Ray side of a cohort: a thin shell over :class:`autometa.trial.CohortRun`."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ray._raylet import setproctitle  # type: ignore[attr-defined]

from autometa.search.cohort.cuts import read_cuts
from autometa.search.worker import TrialWorker, failed, told, use_threads
from autometa.trial import CohortRun, TrialReport, TrialSpec


class CohortWorker(TrialWorker):
    """One actor that runs cohort after cohort."""

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._name, self._cuts = new_config["name"], Path(new_config["cuts"])
        use_threads(new_config["resources"]["CPU"])
        self._members = new_config["members"]
        self._gauges.begin()
        self._run: CohortRun | None = None
        return True

    def step(self) -> dict[str, Any]:
        setproctitle(f"ray::{self._name}")
        cut, names = read_cuts(self._cuts), [member["name"] for member in self._members]
        try:
            if self._run is None:
                self._run = self._begin()
            reports = self._run.advance([i for i, name in enumerate(names) if name in cut])
        except Exception as error:  # a failure of all, which is a result of the search
            left = [{"name": name, **failed(error)} for name in names if name not in cut]
            return self._result(left, done=True)
        self._show(reports.values())
        found = [
            {"name": names[member]}
            | (failed(report) if isinstance(report, Exception) else told(report))
            for member, report in reports.items()
        ]
        return self._result(found, done=self._run.done)

    def _begin(self) -> CohortRun:
        return CohortRun(
            [TrialSpec.from_json(member["spec"]) for member in self._members],
            [Path(member["checkpoint"]) for member in self._members],
            self._members[0]["measure"],
        )

    def _show(self, reports: Iterable[TrialReport | Exception]) -> None:
        """All members as one: each has its share of the seconds."""
        known = [report for report in reports if not isinstance(report, Exception)]
        batch = self._members[0]["spec"]["hyper"]["meta_batch"]
        tasks = batch * sum(report.iteration for report in known)
        self._gauges.show(self._name, tasks, sum(report.seconds for report in known))

    @staticmethod
    def _result(members: list[dict[str, Any]], *, done: bool) -> dict[str, Any]:
        """One result for Tune, which wants a score of it; each member has its own."""
        return {"members": members, "score": math.nan, "done": done}
