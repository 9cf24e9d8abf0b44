"""Recording real trials: what is written, what a stop costs, what is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from synthetic import record as made
from synthetic import records, space

from autometa.bench.record import Proposer, frozen_trial, record
from autometa.bench.records import CURVES, Record, load_records, save_records
from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError, StudyError
from autometa.search.plan import plan
from autometa.trial import run_trial


def config(out: Path, **changes: Any) -> StudyConfig:
    values: dict[str, Any] = {
        "data": {"name": "glyphs", "options": {"image_size": 16}},
        "task": {"ways": 5, "shots": 1, "queries": 2},
        "space": {
            "learners": {"protonet": {"meta_batch": 1, "way_factor": 1}},
            "backbones": {"conv4": {"width": 32}},
        },
        "budget": {"trials": 2, "iterations": 4},
        "validation": {"every": 2, "tasks": 10},
        "scheduler": {"name": "none"},
        "resources": {"concurrency": 1},
        "out": out,
    }
    return parse_config(values | changes)


def test_real_trials_are_recorded_once_and_a_stop_costs_nothing(tmp_path: Path) -> None:
    out, heard = tmp_path / "table", list[int]()
    record(config(out), lambda each: heard.append(each.number))
    begun = load_records(out)
    more = {"trials": 3, "iterations": 4}
    record(config(out, budget=more), lambda each: heard.append(each.number))
    found = load_records(out)
    assert heard == [0, 1, 2]
    assert found[:2] == begun
    assert [each.origin for each in found] == ["random", "tpe", "random"]
    first = found[0]
    planned = plan(config(out))
    reports = list(run_trial(planned.spec(dict(first.candidate)), tmp_path / "checkpoint.pt"))
    assert first.scores == tuple(round(each.score, 5) for each in reports)
    assert first.iterations == (2, 4)
    assert 0 < first.seconds[0] < first.seconds[1]
    before = (out / CURVES).read_bytes()
    save_records(out, reversed(found))
    assert (out / CURVES).read_bytes() == before


def test_what_is_recorded_elsewhere_or_damaged_is_refused(tmp_path: Path) -> None:
    out = tmp_path / "table"
    record(config(out), lambda _: None)
    with pytest.raises(StudyError, match="holds records of another seed"):
        record(config(out, seed=1), lambda _: None)
    limits = {"learners": {"protonet": {}}, "limits": {"max_parameters": 10**6}}
    with pytest.raises(ConfigError, match=r"space.limits are set"):
        record(config(out, space=limits), lambda _: None)
    (out / CURVES).write_bytes((out / CURVES).read_bytes()[:-20])
    with pytest.raises(StudyError, match=r"curves.jsonl.gz is damaged"):
        load_records(out)


def test_one_in_twenty_is_the_last_one_again_and_others_depend_on_what_is_known() -> None:
    known = {each.number: each for each in records(19)}
    again = Proposer(space(), "maximize", 0, known).propose(19)
    assert (again.origin, again.seed, again.params) == ("again", 1, known[18].params)
    learned = [Proposer(space(), "maximize", 0, known).propose(number) for number in (21, 20)]
    fresh = [Proposer(space(), "maximize", 0, {}).propose(number) for number in (21, 20)]
    assert learned[0].params != fresh[0].params, "TPE learns"
    assert learned[1].params == fresh[1].params, "chance doesn't"


def test_tpe_takes_the_learners_in_turn() -> None:
    learners = {"maml": {}, "protonet": {}, "matching": {}}
    given = {"learners": learners, "backbones": {"conv4": {}}}
    planned = plan(parse_config({"space": given}))
    proposer = Proposer(planned.space, "maximize", 0, {})
    found = [proposer.propose(number).candidate["learner"] for number in (1, 3, 5, 7)]
    assert sorted(found[:3]) == sorted(learners)
    assert found[3] == found[0]


def test_a_diverged_trial_teaches_nothing_and_a_complete_one_its_score() -> None:
    params = {"protonet.meta_lr": 0.01, "protonet.meta_batch": 2}
    trial = frozen_trial(space(), params, 0.7)
    assert trial.value == 0.7
    assert set(trial.distributions) == set(params)
    diverged: dict[int, Record] = {0: made(0, params, end="diverged", scores=())}
    proposer = Proposer(space(), "maximize", 0, diverged)
    assert proposer.propose(2).params == Proposer(space(), "maximize", 0, {}).propose(2).params
