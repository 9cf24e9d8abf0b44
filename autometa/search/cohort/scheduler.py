"""A scheduler of trials, asked about each member of a cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ray.tune.schedulers import TrialScheduler

from autometa.search.cohort.cuts import write_cuts
from autometa.search.schedulers import NOBODY, InTurn, Stand


class ByMember(InTurn):
    """Cuts members by another scheduler's decisions; a cohort ends when none is left.

    Attributes:
        cut: Names of the members that were cut.
    """

    def __init__(self, scheduler: TrialScheduler) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._scheduler = scheduler
        self._left: dict[str, set[str]] = {}
        self.cut: set[str] = set()

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        names = [member["name"] for member in trial.config["members"]]
        self._left[trial.trial_id] = set(names)
        for name in names:
            self._scheduler.on_trial_add(NOBODY, Stand(name))  # type: ignore[arg-type]

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        before = len(self.cut)
        left = self._settle(trial, result)
        if len(self.cut) > before:
            own = {member["name"] for member in trial.config["members"]}
            write_cuts(Path(trial.config["cuts"]), own & self.cut)
        return self.CONTINUE if left else self.STOP

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> None:
        """Its last result comes only here; whoever has ended before is known already."""
        self._settle(trial, result)

    def _settle(self, trial: Any, result: dict[str, Any]) -> set[str]:
        """Decide about each member of a result; those that are left."""
        left = self._left[trial.trial_id]
        for member in result["members"]:
            if member["name"] in left and self._stops(member):
                left.discard(member["name"])
        return left

    def _stops(self, member: dict[str, Any]) -> bool:
        """Whether a member has ended, or is cut now."""
        stand: Any = Stand(member["name"])
        scores = {"iteration": member["iteration"], "score": member["score"]}
        if member["end"]:
            self._scheduler.on_trial_complete(NOBODY, stand, scores)
            return True
        if self._scheduler.on_trial_result(NOBODY, stand, scores) == self.STOP:
            self.cut.add(member["name"])
            return True
        return False
