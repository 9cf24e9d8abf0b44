"""Whole searches on real Ray and real SQLite."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS
from small_studies import Searched, searched_whole

from autometa.config import StudyConfig
from autometa.errors import ConfigError, StudyError
from autometa.search import run
from autometa.search.events import Event, Phase, SearchStarted, TrialEnded, TrialStarted
from autometa.search.folder import StudyFolder
from autometa.search.study import COMPLETE, DIVERGED, FAILED, PRUNED, load_optuna_study, rows_of

Make = Callable[..., StudyConfig]
pytestmark = [
    pytest.mark.usefixtures("ray_here"),
    *RAY_WARNINGS,
]


def rows(config: StudyConfig) -> list[Any]:
    return rows_of(load_optuna_study(config))


@pytest.fixture(scope="module")
def searched(small_in: Make, tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Searched:
    """To be read; what changes a study has a copy."""
    return searched_whole(small_in(tmp_path_factory.mktemp("searched")))


@pytest.fixture
def copied(searched: Searched, tmp_path: Path) -> StudyFolder:
    return StudyFolder(shutil.copytree(searched.folder.path, tmp_path / "study"))


def test_a_search_from_configuration_to_result(searched: Searched) -> None:
    config, trials = searched.config, rows(searched.config)
    assert len(trials) == config.budget.trials
    assert {t.end for t in trials} <= {COMPLETE, PRUNED}
    assert {t.end for t in trials} == {COMPLETE, PRUNED}, "early stopping must be visible"
    for trial in trials:
        assert trial.iteration == (24 if trial.end == COMPLETE else max(trial.curve))
        assert all(math.isfinite(score) for score in trial.curve.values())
    check_result(searched.folder, trials)
    check_events(searched.events, config)


def check_result(folder: StudyFolder, trials: list[Any]) -> None:
    result = json.loads(folder.result.read_text())
    finalists = [entry["name"] for entry in result["finalists"]]
    best = sorted((t for t in trials if t.end == COMPLETE), key=lambda t: t.score)[:2]
    assert finalists == [t.name for t in best], "finalists are the best by the search's own score"
    rescored = {entry["name"]: entry["rescored"]["mean"] for entry in result["finalists"]}
    winner = result["winner"]
    assert rescored[winner["name"]] == min(rescored.values()), "MSE: lower is better"
    seeds = winner["rescored"]["seeds"]
    assert set(seeds) == {"1", "2"}, "retraining uses seeds that the search did not"
    assert seeds[str(winner["exported_seed"])] == min(seeds.values())
    assert winner["test"]["tasks"] == result["baseline"]["test"]["tasks"] == 20
    assert winner["test"]["ci95"] > 0
    assert (folder.path / winner["checkpoint"]).exists()


def check_events(events: list[Event], config: StudyConfig) -> None:
    assert isinstance(events[0], SearchStarted)
    started = {e.number for e in events if isinstance(e, TrialStarted)}
    ended = {e.number for e in events if isinstance(e, TrialEnded)}
    assert started == ended
    assert len(started) == config.budget.trials
    titles = [e.title for e in events if isinstance(e, Phase)]
    assert list(dict.fromkeys(titles))[-2:] == ["meta-test", "a closer look"]


def test_two_runs_with_one_worker_are_identical(searched: Searched, small: Make) -> None:
    config = small(finalists={"count": 1, "seeds": 1}, baseline=None)
    run.search(config)
    first, second = (
        [(t.params, t.curve, t.end) for t in rows(each)] for each in (searched.config, config)
    )
    assert first == second


def test_diverging_trials_end_as_such_and_the_search_goes_on(small: Make) -> None:
    space = {"learners": {"maml": {"inner_steps": 5, "inner_lr": {"low": 1e-3, "high": 1e4}}}}
    over = {"scheduler": {"name": "none"}, "sampler": {"name": "random"}}
    config = small(space=space, **over, finalists={"count": 1, "seeds": 1}, baseline=None)
    run.search(config)
    ends = [t.end for t in rows(config)]
    assert len(ends) == config.budget.trials
    assert DIVERGED in ends
    assert COMPLETE in ends
    reasons = {t.reason for t in rows(config) if t.end == DIVERGED}
    assert all(reason for reason in reasons)


def test_a_failing_trial_says_why(small: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rates of the wrong width fail in the trial, not in the search."""
    rates = {"maml": {"inner_steps": 1, "inner_lr": [[0.01] * 7]}}
    config = small(space={"learners": rates})
    with pytest.raises(StudyError, match="no trial was trained to the full budget"):
        run.search(config)
    trials = rows(config)
    assert [t.end for t in trials] == [FAILED] * config.budget.trials
    assert "doesn't fit" in trials[0].reason


def test_limits_are_honoured_before_a_trial_starts(small: Make) -> None:
    limits, budget = {"max_parameters": 100}, {"trials": 10, "iterations": 4}
    finalists = {"count": 1, "seeds": 1}
    config = small(space={"limits": limits}, budget=budget, finalists=finalists, baseline=None)
    events = list[Event]()
    run.search(config, events.append)
    rejected = [e for e in events if isinstance(e, TrialEnded) and e.end == "rejected"]
    started = {e.number for e in events if isinstance(e, TrialStarted)}
    assert rejected
    assert not started & {e.number for e in rejected}
    assert len(started) == config.budget.trials
    assert all(t.candidate["parameters"] <= 100 for t in rows(config) if t.number in started)


def test_limits_that_nothing_meets_are_refused(small: Make) -> None:
    config = small(space={"limits": {"max_parameters": 1}})
    with pytest.raises(ConfigError, match=r"space\.limits refuse .* has 40 parameters"):
        run.search(config)
    assert not config.folder.exists()


def test_a_search_of_few_seconds_prunes_what_still_runs(small: Make) -> None:
    config = small(
        budget={"time": "6s", "trials": 500, "iterations": 2000},
        scheduler={"name": "none"},
        validation={"every": 20},
    )
    with pytest.raises(StudyError, match="give the search more trials or time"):
        run.search(config)
    assert {t.end for t in rows(config)} == {PRUNED}
    assert rows(config)[-1].reason == "the time budget was spent"


def test_an_existing_folder_is_refused_and_left_alone(small: Make) -> None:
    config = small()
    config.folder.mkdir()
    (config.folder / "mine.txt").write_text("keep")
    with pytest.raises(StudyError, match="exists already"):
        run.search(config)
    assert [p.name for p in config.folder.iterdir()] == ["mine.txt"]


def test_a_finished_study_is_resumed_to_the_same_result(copied: StudyFolder) -> None:
    before, trials = copied.result.read_text(), rows(copied.config())
    run.resume(copied.path)
    assert copied.result.read_text() == before
    assert rows(copied.config()) == trials


def test_changed_data_are_not_mixed(copied: StudyFolder) -> None:
    manifest = copied.path / "study.yaml"
    text = manifest.read_text()
    manifest.write_text(text.replace("fingerprint: ", "fingerprint: 0"))
    with pytest.raises(StudyError, match="have changed since it was begun"):
        run.resume(copied.path)
