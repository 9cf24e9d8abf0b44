"""Several objectives: what is refused, the front, its finalists, samplers, and a real storage."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import asdict
from itertools import pairwise
from typing import Any

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.search.folder import create_folder
from autometa.search.front import candidates, crowding, described, front
from autometa.search.plan import plan
from autometa.search.samplers import make_sampler
from autometa.search.space import Candidate
from autometa.search.study import (
    COMPLETE,
    DIVERGED,
    FAILED,
    PRUNED,
    create_study,
    end_trial,
    load_optuna_study,
    report_score,
    rows_of,
    score_direction,
    storage_of,
)

Make = Callable[..., StudyConfig]
SEVERAL: dict[str, dict[str, Any]] = {
    name: {"name": name} for name in ("tpe", "grouped_tpe", "gp", "nsga2", "nsga3", "qmc", "random")
} | {"parts": {"parts": {"size": "nsga2", "x": "gp"}}}
pytestmark = [  # Optuna leaves SQLite connections to the garbage collector
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]


@pytest.mark.parametrize(
    ("fields", "match"),
    [
        ({"objectives": ["parameters", "accuracy"]}, r"objectives begin with 'parameters', but"),
        ({"objectives": ["accuracy", "macs", "macs"]}, r"each may stand there once"),
        ({"objectives": ["accuracy", "mse"]}, r"each may stand there once"),
        ({"objectives": ["accuracy", "size"]}, r"field 'objectives\.1' is 'size'"),
        (
            {"objectives": ["accuracy", "macs"], "sampler": {"name": "cmaes"}},
            r"sampler\.name is 'cmaes', which serves one objective.*choose tpe",
        ),
        (
            {"objectives": ["accuracy", "macs"], "sampler": {"parts": {"conv.*": "evolution"}}},
            r"sampler\.parts\.conv\.\* is 'evolution', which serves one objective",
        ),
    ],
)
def test_objectives_that_cannot_be_searched_are_refused(fields: dict[str, Any], match: str) -> None:
    with pytest.raises(ConfigError, match=match):
        parse_config(fields)


@pytest.mark.parametrize(
    ("objectives", "match"),
    [
        (["accuracy", "macs"], r"begin with 'accuracy', but the score of a regression is 'mse'"),
        (["accuracy"], r"begin with 'accuracy', but the score of a regression is 'mse'"),
        (["mse", "ece"], r"name 'ece', but a regression has no calibration error"),
    ],
)
def test_objectives_that_the_data_do_not_have_are_refused(
    small: Make, objectives: list[str], match: str
) -> None:
    with pytest.raises(ConfigError, match=match):
        plan(small(objectives=objectives))


def test_one_objective_is_a_study_as_always(small: Make) -> None:
    config = small(objectives=["mse"])
    assert config.several == ()
    study = made(config, "minimize")
    assert study.direction.name == "MINIMIZE"
    assert study.metric_names is None


def made(config: StudyConfig, direction: str) -> optuna.Study:
    create_folder(config, {})
    return create_study(config, storage_of(config), direction)


def tell(
    study: optuna.Study, scores: list[float], size: int, end: str = COMPLETE, latency: float = 1.0
) -> None:
    """A trial of this size with these scores, ten meta-iterations apart."""
    trial = study.ask()
    trial.suggest_float("x", 0, 1)
    candidate = Candidate("maml", {}, "mlp", {}, size, 3 * size)
    trial.set_user_attr("candidate", asdict(candidate))
    for index, score in enumerate(scores):
        measures = {"adaptation": latency} if end == COMPLETE else None
        report_score(trial, score, 10 * (index + 1), measures=measures)
    end_trial(trial, end)


def test_what_the_storage_keeps_of_a_search_with_three_objectives(small: Make) -> None:
    config = small(objectives=["mse", "parameters", "adaptation"])
    study = made(config, "minimize")
    tell(study, [0.9, 0.5], 40, latency=2.5)
    tell(study, [0.8], 20, PRUNED)
    tell(study, [0.9, math.nan], 20, DIVERGED)
    tell(study, [], 20, FAILED)
    kept = load_optuna_study(config)
    assert [d.name for d in kept.directions] == ["MINIMIZE"] * 3
    assert kept.metric_names == ["mse", "parameters", "adaptation"]
    assert kept.trials[0].values == [0.5, 40.0, 2.5]
    assert [t.values for t in kept.trials[1:]] == [None] * 3
    rows = rows_of(kept)
    assert [r.curve for r in rows] == [{10: 0.9, 20: 0.5}, {10: 0.8}, {10: 0.9}, {}]
    assert [r.score for r in rows] == [0.5, 0.8, 0.9, None]
    assert [r.iteration for r in rows] == [20, 10, 20, 0]
    assert rows[0].measures == {"parameters": 40, "macs": 120, "adaptation": 2.5}


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_front_is_what_no_other_trial_dominates(small: Make, direction: str) -> None:
    score = "accuracy" if direction == "maximize" else "mse"
    study = made(small(objectives=[score, "parameters"]), direction)
    random, sign = np.random.default_rng(3), -1 if direction == "maximize" else 1
    for _ in range(40):
        tell(study, [float(random.integers(0, 12)) / 12], int(random.integers(1, 12)))
    tell(study, [0.0 if sign > 0 else 1.0], 0, PRUNED)
    rows = rows_of(study)[:-1]
    points = {r.number: (sign * (r.score or 0.0), r.measures["parameters"]) for r in rows}
    alone = {
        number
        for number, p in points.items()
        if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points.values())
    }
    found = front(study)
    assert {row.number for row in found} == alone
    assert all(sign * a.score <= sign * b.score for a, b in pairwise(found))  # type: ignore[operator]
    assert score_direction(study) == direction
    told = described(study, {found[0].name})
    assert told is not None
    assert [each["finalist"] for each in told] == [True] + [False] * (len(found) - 1)
    assert told[0]["values"] == {
        score: found[0].score,
        "parameters": found[0].measures["parameters"],
    }


def test_finalists_are_the_best_score_the_smallest_and_what_stands_apart(small: Make) -> None:
    study = made(small(objectives=["accuracy", "parameters"]), "maximize")
    for score, size in ((0.5, 10), (0.9, 100), (0.52, 12), (0.6, 20), (0.8, 60), (0.4, 50)):
        tell(study, [score], size)
    order = [(row.score, row.measures["parameters"]) for row in candidates(study)]
    assert order[:2] == [(0.9, 100), (0.5, 10)]
    by_hand = {
        (0.52, 12): (0.6 - 0.5) / 0.4 + (20 - 10) / 90,
        (0.6, 20): (0.8 - 0.52) / 0.4 + (60 - 12) / 90,
        (0.8, 60): (0.9 - 0.6) / 0.4 + (100 - 20) / 90,
    }
    assert order[2:] == sorted(by_hand, key=lambda point: -by_hand[point])


@given(arrays(float, st.tuples(st.integers(1, 7), st.integers(2, 3)), elements=st.floats(0, 1)))
def test_ends_of_every_objective_are_infinitely_far_apart(values: Any) -> None:
    distance = crowding(values)
    assert len(distance) == len(values)
    for column in values.T:
        assert any(distance[i] == math.inf for i in np.flatnonzero(column == column.max()))
        assert any(distance[i] == math.inf for i in np.flatnonzero(column == column.min()))


def test_candidates_of_one_objective_are_the_best(small: Make) -> None:
    study = made(small(), "minimize")
    for score in (0.5, 0.2, 0.3):
        tell(study, [score], 10)
    assert [row.score for row in candidates(study)] == [0.2, 0.3, 0.5]
    assert described(study, set()) is None


def proposals(study: optuna.Study, name: str, trials: int) -> list[dict[str, Any]]:
    """Two objectives that pull apart; every third trial is cut."""
    config = parse_config({"sampler": SEVERAL[name] | {"startup_trials": 5}})
    for number in range(len(study.trials), trials):
        study.sampler = make_sampler(config.sampler, 1, number)
        trial = study.ask()
        x = trial.suggest_float("x", 1e-3, 1, log=True)
        size = trial.suggest_categorical("size", [1, 2, 4])
        deep = trial.suggest_int("depth", 1, 3)
        trial.set_user_attr("candidate", asdict(Candidate("maml", {}, "mlp", {}, size * deep, 1)))
        report_score(trial, size * deep - abs(math.log10(x) + 1.5), 1)
        end_trial(trial, COMPLETE if number % 3 else PRUNED)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", SEVERAL)
def test_samplers_serve_two_objectives_and_go_on_after_a_restart(name: str, small: Make) -> None:
    config = small(objectives=["accuracy", "parameters"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = proposals(made(config, "maximize"), name, 14)
        other = config.model_copy(update={"out": config.folder.parent / "again"})
        proposals(made(other, "maximize"), name, 9)
        resumed = proposals(load_optuna_study(other), name, 14)
    assert resumed == whole
    assert len({str(params) for params in whole}) > 7
