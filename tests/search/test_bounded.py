"""Samplers of long studies see the best and the newest trials; of others, everything."""

from __future__ import annotations

from typing import Any

import hypothesis.strategies as st
import optuna
import pytest
from hypothesis import given
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import TrialState

from autometa.config import SamplerConfig
from autometa.search.bounded import BoundedSampler, BoundedStudy, _distinct
from autometa.search.evolution import fitness
from autometa.search.mirror import mirrored
from autometa.search.samplers import INDEPENDENT, JOINT, GridSampler, make_sampler


def study_of(scores: list[float], running: int = 0) -> optuna.Study:
    study = optuna.create_study(direction="maximize", sampler=RandomSampler(seed=0))
    for score in scores:
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        study.tell(trial, score)
    for _ in range(running):
        study.ask()
    return study


def numbers(study: optuna.Study, states: Any = None) -> list[int]:
    return [trial.number for trial in study.get_trials(deepcopy=False, states=states)]


def test_the_best_and_the_newest_are_kept_in_their_order() -> None:
    study = study_of([9, 0, 8, 1, 2, 7, 3, 4], running=1)
    view = BoundedStudy(study, most=5, best=2)
    assert numbers(view) == [0, 2, 6, 7, 8]
    assert numbers(view, (TrialState.RUNNING,)) == [8]


def test_what_was_cut_is_worse_than_what_is_whole() -> None:
    study = study_of([0.1])
    for score in (0.9, 0.8, 0.7):
        trial = study.ask()
        trial.report(score, 1)
        study.tell(trial, state=TrialState.PRUNED)
    assert numbers(BoundedStudy(study, most=2, best=1)) == [0, 3]


@pytest.mark.parametrize("several", [False, True])
def test_several_objectives_keep_the_newest(several: bool) -> None:
    study = optuna.create_study(directions=["maximize"] * (2 if several else 1))
    for _ in range(6):
        trial = study.ask()
        study.tell(trial, [1.0, 2.0] if several else 1.0)
    assert len(numbers(BoundedStudy(study, most=4, best=1))) == (3 if several else 4)


@given(
    scores=st.lists(st.integers(0, 5), min_size=1, max_size=40),
    late=st.sets(st.integers(0, 39)),
    most=st.integers(2, 10),
    data=st.data(),
)
def test_looking_at_each_trial_once_finds_the_best_of_all(
    scores: list[int], late: set[int], most: int, data: st.DataObject
) -> None:
    """Some trials end long after they began; the older of equals is kept."""
    best = data.draw(st.integers(1, most - 1))
    study = optuna.create_study(direction="minimize")
    waiting: list[tuple[optuna.Trial, int]] = []
    for number, score in enumerate(scores):
        trial = study.ask()
        if number in late:
            trial.report(score + 1, 1)
            waiting.append((trial, score))
        else:
            study.tell(trial, score)
        if waiting and number % 3 == 0:
            study.tell(*waiting.pop(0))
        trials = study.get_trials()
        older, newer = trials[: max(0, len(trials) - most + best)], trials[-(most - best) :]
        by_score = sorted(older, key=lambda t: fitness(t, study.direction), reverse=True)
        expected = sorted(trial.number for trial in by_score[:best])
        assert numbers(BoundedStudy(study, most, best)) == expected + [t.number for t in newer]


def proposals(sampler: optuna.samplers.BaseSampler, study: optuna.Study) -> list[float]:
    study.sampler = sampler
    trial = study.ask()
    found = [trial.suggest_float("x", 0, 1), trial.suggest_float("y", 0, 1)]
    study.tell(trial, state=TrialState.FAIL)
    return found


def test_a_study_within_the_bound_is_proposed_to_as_without_it() -> None:
    scores = [float(i % 7) for i in range(30)]
    alone = proposals(TPESampler(seed=1), study_of(scores))
    assert proposals(BoundedSampler(TPESampler(seed=1), most=31), study_of(scores)) == alone


def test_beyond_it_only_what_is_kept_counts() -> None:
    scores = [float(-number) for number in range(30)]  # the best are old
    bounded = proposals(BoundedSampler(TPESampler(seed=1), most=12, best=0), study_of(scores))
    few = optuna.create_study(direction="maximize")
    few.add_trials(study_of(scores).get_trials()[-11:])  # and the one that is proposed
    assert bounded == proposals(TPESampler(seed=1), few)
    assert bounded != proposals(TPESampler(seed=1), study_of(scores))


def test_parts_are_bounded_too_and_the_grid_is_not() -> None:
    assert isinstance(make_sampler(SamplerConfig(), 0, 0), BoundedSampler)
    parts = SamplerConfig(parts={"x": "evolution"})
    assert isinstance(make_sampler(parts, 0, 0), BoundedSampler)
    assert not isinstance(make_sampler(SamplerConfig(name="grid"), 0, 0), BoundedSampler)


@pytest.mark.parametrize("name", [*JOINT, *INDEPENDENT])
def test_one_trial_of_each_kind_tells_the_search_space(name: str) -> None:
    """Conditional dimensions, one of a dynamic range, trials that were cut or failed."""
    study = mirrored(*_stored())
    _grow(study)
    sampler = make_sampler(SamplerConfig(name=name), seed=3, number=30)
    assert isinstance(sampler, BoundedSampler | GridSampler)
    inner = getattr(sampler, "_sampler", sampler)
    trial = study.get_trials()[-1]
    whole = inner.infer_relative_search_space(study, trial)
    assert sampler.infer_relative_search_space(study, trial) == whole
    assert len(_distinct(study)) < 15


def _stored() -> tuple[optuna.Study, optuna.storages.BaseStorage]:
    storage = optuna.storages.InMemoryStorage()
    return optuna.create_study(storage=storage, direction="maximize"), storage


def _grow(study: optuna.Study) -> None:
    states = (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL)
    for number in range(40):
        trial = study.ask()
        trial.suggest_float("x", 0, 1)
        trial.suggest_categorical("c", ["a", "b"])
        if number % 2:
            trial.suggest_int("y", 1, 8)
        trial.suggest_float("z", 0, 1 + number // 20)
        trial.report(number, 1)
        state = states[number % 3]
        study.tell(trial, number if state == TrialState.COMPLETE else None, state=state)
