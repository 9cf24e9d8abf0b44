"""What a trial may cost: an equal time for every learner, more tasks where scores are close."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.search import run
from autometa.search.schedulers import NOBODY, Stand, make_scheduler, rivals
from autometa.search.study import COMPLETE, best_first, load_optuna_study, rows_of

Make = Callable[..., StudyConfig]
pytestmark = RAY_WARNINGS


def search(config: StudyConfig) -> tuple[list[Any], dict[str, Any]]:
    folder = run.search(config)
    return rows_of(load_optuna_study(config)), json.loads(folder.result.read_text())


@pytest.mark.usefixtures("ray_here")
def test_learners_have_the_same_time_not_the_same_meta_iterations(small: Make) -> None:
    """64 tasks a meta-iteration of 5 steps cost several times what one task of one step does."""
    learners = {
        "maml": {"meta_batch": 64, "inner_steps": 5, "order": "second"},
        "reptile": {"meta_batch": 1, "inner_steps": 1},
    }
    config = small(
        space={"learners": learners, "backbones": {"mlp": {"depth": 2, "*/width": 40}}},
        budget={"trials": 8, "trial_time": 0.5},
        scheduler={"name": "none"},
        sampler={"name": "random"},
        baseline=None,
    )
    rows, result = search(config)
    counts = {
        name: [row.measures["meta_iterations"] for row in rows if row.learner == name]
        for name in learners
    }
    assert all(row.iteration == 24 and len(row.curve) == 6 for row in rows)
    assert all(counts.values()), "both were tried"
    assert max(counts["maml"]) < min(counts["reptile"])
    searched = {row.name: row.measures["meta_iterations"] for row in rows}
    winner = result["winner"]
    assert winner["spec"]["iterations"] == searched[winner["name"]]
    assert "seconds" not in winner["spec"], "a finalist is retrained as long as it was searched"


@pytest.mark.usefixtures("ray_here")
def test_close_scores_are_looked_at_twice(small: Make) -> None:
    config = small(
        budget={"trials": 10},
        validation={"max_tasks": 40},
        finalists={"count": 1},
        scheduler={"reduction_factor": 3},
    )
    rows, _ = search(config)
    assert rows[0].measures["validation_tasks"] == 20, "nobody was there to be close to"
    assert {row.measures["validation_tasks"] for row in rows} == {20, 40}
    for row in rows:  # concurrency is 1, so what a trial was told is what ended before it
        before = best_first([r for r in rows if r.number < row.number], "minimize")
        if row.end == COMPLETE and before and row.measures["validation_tasks"] == 20:
            assert abs(row.score - before[0].score) > row.ci95


@pytest.mark.parametrize("name", ["asha", "hyperband"])
def test_a_rival_is_what_the_scheduler_cuts_by(name: str) -> None:
    config = parse_config(
        {
            "scheduler": {"name": name, "grace": 30, "reduction_factor": 2},
            "budget": {"iterations": 240},
            "validation": {"every": 20},
        }
    )
    scheduler, random = make_scheduler(config, [], "minimize"), np.random.default_rng(0)
    passed = dict[int, list[float]]()
    for number in range(60):
        stand = Stand(f"trial-{number}")
        told = rivals(scheduler, stand.trial_id, config)
        scheduler.on_trial_add(NOBODY, stand)
        level = random.random()
        for at in range(20, 241, 20):
            result = {"iteration": at, "score": level + 0.1 * random.random()}
            decided = scheduler.on_trial_result(NOBODY, stand, result)
            assert decided == "CONTINUE" or result["score"] > told[at]
            passed.setdefault(at, []).append(result["score"])
            if decided == "STOP":
                break
            assert at not in told or result["score"] <= told[at] or at == 240
    assert set(told) == {40, 60, 120, 240} if name == "asha" else told
    if name == "asha":
        assert told[40] == pytest.approx(np.percentile(passed[40][:-1], 50))


def test_rules_without_rungs_have_no_rivals() -> None:
    for name in ("none", "median", "pbt"):
        config = parse_config({"scheduler": {"name": name}})
        assert rivals(make_scheduler(config, [], "maximize"), "x", config) == {}


def test_fewer_tasks_than_at_first_are_refused(small: Make) -> None:
    with pytest.raises(ConfigError, match=r"validation.max_tasks is 10, but must be at least"):
        small(validation={"max_tasks": 10})
