"""The study's storage that is read from memory, against the database behind it."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import TPESampler
from optuna.trial import FrozenTrial, TrialState

from autometa.search.mirror import mirrored as mirrored_in

KEPT = (
    "number",
    "state",
    "values",
    "params",
    "distributions",
    "user_attrs",
    "system_attrs",
    "intermediate_values",
)


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'study.db'}"


def new(url: str, name: str = "s", **options: Any) -> optuna.Study:
    return optuna.create_study(
        study_name=name, storage=url, sampler=TPESampler(seed=0, n_startup_trials=3), **options
    )


def mirrored(study: optuna.Study) -> optuna.Study:
    return mirrored_in(study, study._storage)


def shown(trials: list[FrozenTrial]) -> list[dict[str, Any]]:
    """All that a trial is, but for its times; a NaN as text, since none equals another."""

    def plain(trial: FrozenTrial) -> dict[str, Any]:
        told = {name: getattr(trial, name) for name in KEPT}
        scores = trial.intermediate_values.items()
        return told | {"intermediate_values": {s: "nan" if math.isnan(v) else v for s, v in scores}}

    return [plain(trial) for trial in trials]


def run(study: optuna.Study, trials: int) -> None:
    """Trials that complete, are pruned, diverge and fail."""
    for _ in range(trials):
        trial = study.ask()
        x = trial.suggest_float("x", 1e-3, 1.0, log=True)
        steps = trial.suggest_int("steps", 1, 5)
        kind = trial.suggest_categorical("kind", ("a", "b", None))
        trial.set_user_attr("candidate", {"x": x, "list": [steps, kind]})
        trial.report(x * steps, 1)
        end = trial.number % 4
        if end == 0:
            trial.report(x, 2)
            study.tell(trial, x)
        elif end == 1:
            study.tell(trial, state=TrialState.PRUNED)
        elif end == 2:
            trial.report(math.nan, 2)
            study.tell(trial, state=TrialState.PRUNED)
        else:
            study.tell(trial, state=TrialState.FAIL)
    study.set_user_attr("seconds", 12.5)


def test_the_database_holds_what_a_study_without_a_mirror_would_write(
    tmp_path: Path, url: str
) -> None:
    plain = new(f"sqlite:///{tmp_path / 'plain.db'}")
    run(plain, 24)
    study = new(url)
    mirror = mirrored(study)
    mirror.sampler = study.sampler
    run(mirror, 24)
    there = optuna.load_study(study_name="s", storage=url)
    assert shown(there.trials) == shown(plain.trials)
    assert shown(mirror.trials) == shown(plain.trials)
    assert there.user_attrs == mirror.user_attrs == plain.user_attrs
    assert mirror.best_value == there.best_value


def test_a_study_goes_on_from_its_database(url: str) -> None:
    study = new(url, directions=["maximize", "minimize"])
    with pytest.warns(ExperimentalWarning):
        study.set_metric_names(["accuracy", "macs"])
    trial = mirrored(study).ask()
    trial.suggest_float("x", 0, 1)
    trial.set_user_attr("candidate", {})
    again = mirrored(optuna.load_study(study_name="s", storage=url))
    assert again.metric_names == ["accuracy", "macs"]
    assert again.directions == study.directions
    open_trial = optuna.Trial(again, again.trials[0]._trial_id)
    open_trial.set_user_attr("seconds", 3.0)
    again.tell(open_trial, [0.5, 7.0])
    there = optuna.load_study(study_name="s", storage=url).trials
    assert shown(there) == shown(again.trials)
    assert [t.values for t in there] == [[0.5, 7.0]]


def test_of_a_proposal_that_was_not_finished_nothing_is_written(url: str) -> None:
    study = new(url)
    mirror = mirrored(study)
    trial = mirror.ask()
    trial.suggest_float("x", 0, 1)
    assert len(mirror.trials) == 1
    assert study.trials == []
    trial.set_user_attr("candidate", {})
    assert shown(study.trials) == shown(mirror.trials)


def test_a_trial_that_ends_while_it_is_proposed_is_written(url: str) -> None:
    study = new(url)
    mirror = mirrored(study)
    mirror.tell(mirror.ask(), state=TrialState.FAIL)
    mirror.tell(mirror.ask(), 0.5)
    assert [t.state for t in study.trials] == [TrialState.FAIL, TrialState.COMPLETE]
    assert study.best_value == 0.5


def test_a_trial_in_the_queue_is_taken_once_and_written(url: str) -> None:
    study = new(url)
    mirror = mirrored(study)
    mirror.enqueue_trial({"x": 0.25})
    assert [t.state for t in study.trials] == [TrialState.WAITING]
    trial = mirror.ask()
    assert trial.suggest_float("x", 0, 1) == 0.25
    assert mirror.ask().number == 1
    assert study.trials[0].params == {"x": 0.25}
    assert study.trials[0].state == TrialState.RUNNING


def test_an_attribute_is_in_memory_what_it_will_be_when_it_is_read(url: str) -> None:
    mirror = mirrored(new(url))
    trial = mirror.ask()
    trial.set_user_attr("curve", [(1, 0.5)])
    assert mirror.trials[0].user_attrs == {"curve": [[1, 0.5]]}


def test_a_failing_database_is_an_error_of_whoever_writes(url: str, tmp_path: Path) -> None:
    mirror = mirrored(new(url))
    trial = mirror.ask()
    storage = optuna.storages.RDBStorage(url)
    optuna.delete_study(study_name="s", storage=storage)
    with pytest.raises(KeyError):
        trial.set_user_attr("candidate", {})
