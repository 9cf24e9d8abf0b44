"""A study's storage, read from memory by the one process that drives the study.

Optuna's samplers read all trials once for each parameter, and its database storage asks the
database each time and commits each parameter: half of what a trial costs beside its training.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.storages import BaseStorage, InMemoryStorage
from optuna.trial import FrozenTrial, TrialState


def mirrored(study: optuna.Study, storage: BaseStorage) -> optuna.Study:
    """The study of a storage, for the process that alone changes it."""
    name = study.study_name
    mirror = Mirror(storage, storage.get_study_id_from_name(name))
    return optuna.load_study(study_name=name, storage=mirror)


class Mirror(InMemoryStorage):
    """One study in memory; what is written goes to its storage too, before the call returns.

    A new trial alone is kept back until it has its first user attribute or its end, and is then
    written as a whole: a process that dies while it proposes leaves nothing of the proposal behind.
    """

    def __init__(self, storage: BaseStorage, study_id: int) -> None:
        super().__init__()
        self._behind, self._behind_id = storage, study_id
        self._known: dict[int, int] = {}
        """Trial here → trial there, of those that were written."""
        self._distributions: dict[BaseDistribution, BaseDistribution] = {}
        """Each once: trials that have the same ones are known by that, which takes no comparing."""
        own = super().create_new_study(
            storage.get_study_directions(study_id), storage.get_study_name_from_id(study_id)
        )
        for key, value in storage.get_study_user_attrs(study_id).items():
            super().set_study_user_attr(own, key, value)
        for key, value in storage.get_study_system_attrs(study_id).items():
            super().set_study_system_attr(own, key, value)
        for trial in storage.get_all_trials(study_id, deepcopy=False):
            trial.distributions = {
                name: self._once(each) for name, each in trial.distributions.items()
            }
            self._known[super().create_new_trial(own, trial)] = trial._trial_id

    def set_study_user_attr(self, study_id: int, key: str, value: Any) -> None:
        """Keep and write."""
        super().set_study_user_attr(study_id, key, value)
        self._behind.set_study_user_attr(self._behind_id, key, value)

    def set_study_system_attr(self, study_id: int, key: str, value: Any) -> None:
        """Keep and write."""
        super().set_study_system_attr(study_id, key, value)
        self._behind.set_study_system_attr(self._behind_id, key, value)

    def create_new_trial(self, study_id: int, template_trial: FrozenTrial | None = None) -> int:
        """Keep; write only what comes as a whole."""
        trial_id = super().create_new_trial(study_id, template_trial)
        if template_trial is not None:
            self._write(trial_id)
        return trial_id

    def set_trial_param(
        self,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
    ) -> None:
        """Keep, and write unless the trial is being proposed."""
        distribution = self._once(distribution)
        super().set_trial_param(trial_id, param_name, param_value_internal, distribution)
        if trial_id in self._known:
            self._behind.set_trial_param(
                self._known[trial_id], param_name, param_value_internal, distribution
            )

    def set_trial_system_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep, and write unless the trial is being proposed."""
        super().set_trial_system_attr(trial_id, key, value)
        if trial_id in self._known:
            self._behind.set_trial_system_attr(self._known[trial_id], key, value)

    def set_trial_user_attr(self, trial_id: int, key: str, value: Any) -> None:
        """Keep and write; what is kept is what would be read."""
        super().set_trial_user_attr(trial_id, key, _as_read(value))
        if not self._write(trial_id):
            self._behind.set_trial_user_attr(self._known[trial_id], key, value)

    def set_trial_intermediate_value(
        self, trial_id: int, step: int, intermediate_value: float
    ) -> None:
        """Keep and write."""
        super().set_trial_intermediate_value(trial_id, step, intermediate_value)
        if not self._write(trial_id):
            self._behind.set_trial_intermediate_value(
                self._known[trial_id], step, intermediate_value
            )

    def set_trial_state_values(
        self, trial_id: int, state: TrialState, values: Sequence[float] | None = None
    ) -> bool:
        """Keep and write; False if another had taken the trial."""
        done = super().set_trial_state_values(trial_id, state, values)
        if done and not self._write(trial_id):
            self._behind.set_trial_state_values(self._known[trial_id], state, values)
        return done

    def _once(self, distribution: BaseDistribution) -> BaseDistribution:
        return self._distributions.setdefault(distribution, distribution)

    def _write(self, trial_id: int) -> bool:
        """Write a trial as a whole, unless it was; whether that was done."""
        if trial_id in self._known:
            return False
        whole = super().get_trial(trial_id)
        self._known[trial_id] = self._behind.create_new_trial(self._behind_id, whole)
        return True


def _as_read(value: Any) -> Any:
    """As a database gives it back; keys, which all trials have, are each there once."""
    return json.loads(json.dumps(value), object_pairs_hook=_interned)


def _interned(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    return {sys.intern(key): value for key, value in pairs}
