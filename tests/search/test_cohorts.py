"""Studies whose trials are trained several at a time: the same trials, the same ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS
from small_studies import SMALL, merged

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.search import run
from autometa.search.folder import CHECKPOINTS, StudyFolder
from autometa.search.plan import plan
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    PRUNED,
    RUNNING,
    TrialRow,
    load_optuna_study,
    rows_of,
)
from autometa.search.tuner import cohort_size
from autometa.trial import run_trial

Make = Callable[..., StudyConfig]
pytestmark = [pytest.mark.usefixtures("ray_here"), *RAY_WARNINGS]

COHORTS: dict[str, Any] = {
    "budget": {"trials": 10},
    "resources": {"cohort": 4},
    "finalists": {"count": 1, "seeds": 1},
}


def rows(config: StudyConfig) -> list[TrialRow]:
    return rows_of(load_optuna_study(config))


def shape(trial: TrialRow) -> dict[str, Any]:
    """What a program depends on."""
    hyper = {key: value for key, value in trial.candidate["hyper"].items() if key != "meta_lr"}
    hyper["inner_lr"] = {k: v for k, v in hyper["inner_lr"].items() if k != "values"}
    return {"hyper": hyper, "architecture": trial.candidate["architecture"]}


@pytest.fixture(scope="module")
def study(
    small_in: Make, tmp_path_factory: pytest.TempPathFactory, ray_here: None
) -> tuple[StudyConfig, StudyFolder]:
    config = small_in(tmp_path_factory.mktemp("cohorts"), **COHORTS)
    return config, run.search(config)


def test_a_search_with_cohorts_has_every_trial_and_a_result(
    study: tuple[StudyConfig, StudyFolder],
) -> None:
    config, folder = study
    trials = rows(config)
    assert [t.number for t in trials] == list(range(10))
    assert {t.end for t in trials} == {COMPLETE, PRUNED}
    result = json.loads(folder.result.read_text())
    best = min((t for t in trials if t.end == COMPLETE), key=lambda t: t.score or 0)
    assert result["finalists"][0]["name"] == best.name
    assert not list((folder.path / CHECKPOINTS).glob("*.json"))


def test_members_differ_in_numbers_only(study: tuple[StudyConfig, StudyFolder]) -> None:
    trials = rows(study[0])
    for first in (0, 4, 8):
        cohort = trials[first : first + 4]
        assert all(shape(trial) == shape(cohort[0]) for trial in cohort)
        assert len({trial.params["maml.meta_lr"] for trial in cohort}) == len(cohort)
        assert len({str(trial.candidate["hyper"]["inner_lr"]) for trial in cohort}) == len(cohort)
    assert len({json.dumps(shape(trials[first]), sort_keys=True) for first in (0, 4, 8)}) > 1


def test_a_member_s_curve_is_that_of_the_trial_alone(
    study: tuple[StudyConfig, StudyFolder], tmp_path: Any
) -> None:
    config, _ = study
    planned = plan(config)
    for trial in rows(config):
        spec = planned.spec(trial.candidate)
        alone = {r.iteration: r.score for r in run_trial(spec, tmp_path / f"{trial.number}.pt")}
        for iteration, score in trial.curve.items():
            assert score == pytest.approx(alone[iteration], rel=1e-3)


def test_cut_members_stop_at_their_rung_and_the_others_go_on(
    study: tuple[StudyConfig, StudyFolder],
) -> None:
    config, _ = study
    trials = rows(config)
    cut = [trial for trial in trials if trial.end == PRUNED]
    assert cut
    for trial in cut:
        assert max(trial.curve) in (4, 8, 16)
        assert "cut by the scheduler" in trial.reason
    for trial in trials:
        if trial.end == COMPLETE:
            assert sorted(trial.curve) == [4, 8, 12, 16, 20, 24]
    # At the first rung, the last trial of the first cohort is cut if it isn't in the better half.
    first = [trial.curve[4] for trial in trials[:4]]
    assert (max(trials[3].curve) > 4) == (first[3] <= sorted(first)[1] + 1e-12)


def test_members_that_diverge_end_alone(small: Make) -> None:
    config = small(
        budget={"trials": 8},
        resources={"cohort": 8},
        space={"learners": {"maml": {"inner_lr": {"low": 1e-3, "high": 1e30}}}},
        scheduler={"name": "none"},
        finalists={"count": 1, "seeds": 1},
        baseline=None,
    )
    run.search(config)
    ends = [trial.end for trial in rows(config)]
    assert set(ends) == {COMPLETE, DIVERGED}
    for trial in rows(config):
        if trial.end == DIVERGED:
            assert trial.reason


def test_a_proposal_that_waited_for_its_turn_begins_the_next_cohort(small: Make) -> None:
    config = small(**COHORTS | {"budget": {"trials": 5}})
    from autometa.search.study import create_study, storage_of
    from autometa.search.tuner import run_trials

    planned = plan(config)
    config.folder.mkdir()
    (config.folder / CHECKPOINTS).mkdir()
    study = create_study(config, storage_of(config), planned.direction)
    for steps in (1, 2):
        study.enqueue_trial({"maml.inner_steps": steps})
    assert run_trials(study, planned.space, config, planned.spec, lambda event: None)
    steps = [trial.params["maml.inner_steps"] for trial in rows(config)]
    assert steps[:2] == [1, 2]
    assert len(steps) == 5
    assert steps[2:] == [2, 2, 2], "the second one's companions"


def test_with_one_worker_it_is_always_the_same(
    study: tuple[StudyConfig, StudyFolder], small: Make
) -> None:
    again = small(**COHORTS)
    run.search(again)
    first, second = (
        [(t.params, t.curve, t.end) for t in rows(config)] for config in (study[0], again)
    )
    assert first == second


def test_images_on_a_cpu_are_left_alone(small: Make) -> None:
    images = small(
        data={"name": "glyphs"},
        task={"ways": 5, "shots": 1, "queries": 5},
        space={"learners": {"maml": {"inner_steps": [1]}}, "backbones": {"conv": {}}},
        baseline=None,
        resources={"cohort": 4},
    )
    images = images.model_copy(
        update={"space": images.space.model_copy(update={"backbones": {"conv": {}}})}
    )
    space = plan(images).space
    assert cohort_size(images, space) == 1
    on_gpu = images.resources.model_copy(update={"gpus_per_trial": 0.5})
    assert cohort_size(images.model_copy(update={"resources": on_gpu}), space) == 4
    numbers = small(resources={"cohort": 4})
    assert cohort_size(numbers, plan(numbers).space) == 4


@pytest.mark.parametrize(
    ("over", "field"),
    [
        ({"scheduler": {"name": "pbt"}}, "scheduler.name 'pbt'"),
        ({"budget": {"trial_time": "10s"}}, "budget.trial_time 10.0"),
        ({"validation": {"max_tasks": 40}}, "validation.max_tasks 40"),
        ({"resources": {"strategy": "loop"}}, "resources.strategy 'loop'"),
        ({"resources": {"cohort": 0}}, "resources.cohort"),
    ],
)
def test_what_would_part_them_is_refused(over: dict[str, Any], field: str) -> None:
    values = merged(merged(SMALL, {"resources": {"cohort": 2}}), over)
    with pytest.raises(ConfigError, match=field):
        parse_config(values)


def test_kill_9_loses_nothing_of_a_cohort(small: Make, tmp_path: Any) -> None:
    over = COHORTS | {
        "space": {"learners": {"maml": {"meta_batch": 1}}},
        "budget": {"trials": 8, "iterations": 300},
        "validation": {"every": 25},
        "scheduler": {"grace": 100, "reduction_factor": 2},
        "baseline": None,
    }
    calm = small(**over | {"out": str(tmp_path / "calm")})
    run.search(calm)
    killed = small(**over)
    code = (
        "import json, sys; from autometa.config import parse_config;"
        "from autometa.search import run; run.search(parse_config(json.loads(sys.argv[1])))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, json.dumps(killed.model_dump(mode="json"))],
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not _midway(killed):
        time.sleep(0.05)
    assert process.poll() is None, "the search ended before it was seen midway"
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    run.resume(killed.folder)
    expected = [(t.number, t.params, t.curve, t.end) for t in rows(calm)]
    assert [(t.number, t.params, t.curve, t.end) for t in rows(killed)] == expected


def _midway(config: StudyConfig) -> bool:
    if not StudyFolder(config.folder).database.exists():
        return False
    try:
        trials = rows(config)
    except Exception:  # the database is just being made
        return False
    running = [trial for trial in trials if trial.end == RUNNING]
    return len(trials) > len(running) > 0 and any(trial.curve for trial in running)
