"""Trials whose outer loop changes on the way, that go on from others, or that have a time."""

from __future__ import annotations

import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autometa.engine.strategies import meta_gradient
from autometa.engine.train import MAX_GRADIENT_NORM
from autometa.episodes import stream
from autometa.learners.base import Moment
from autometa.learners.hyper_json import to_json
from autometa.learners.protonet import ProtoNetHyper
from autometa.trial import (
    TrialSpec,
    build_learner,
    dataset,
    kept,
    load_params,
    run_trial,
    score_checkpoint,
    training_source,
)
from autometa.trial.spec import strategy


def hyper(**values: Any) -> dict[str, Any]:
    return to_json(ProtoNetHyper(**{"meta_batch": 1, "meta_optimizer": "adamw"} | values))


FIRST = hyper(meta_lr=0.01, meta_weight_decay=0.5)
SECOND = hyper(meta_lr=0.003, meta_weight_decay=0.25, meta_batch=2)
LAST = hyper(meta_lr=0.001, meta_weight_decay=0.125)
TASK = {"ways": 3, "shots": 1, "queries": 2, "within_groups": False, "train_within_groups": False}
SPEC = TrialSpec(
    learner="protonet",
    hyper=LAST,
    backbone="conv4",
    architecture={"width": 32},
    data="glyphs",
    data_options={"image_size": 16, "instances": 6},
    task=TASK,
    seed=1,
    iterations=6,
    validate_every=2,
    validation_tasks=20,
    earlier=((2, FIRST), (4, SECOND)),
)


def by_hand(spec: TrialSpec, course: list[tuple[int, dict[str, Any]]]) -> dict[str, torch.Tensor]:
    """AdamW of PyTorch, whose rate and decay are set before each step."""
    learner, _ = build_learner(spec)
    params = learner.init(3, stream(spec.seed, "init"))
    decayed = {n for n in learner.learned(params) if n.startswith(("encoder.", "head."))}
    plain = sorted(set(learner.learned(params)) - decayed)
    groups = [{"params": [params[n] for n in sorted(decayed)]}]
    groups += [{"params": [params[n] for n in plain]}] if plain else []
    optimizer, draws = torch.optim.AdamW(groups), stream(spec.seed, "train")
    start = 0
    for until, values in course:
        here = replace(spec, hyper=values)
        learner, _ = build_learner(here)
        source = training_source(here, dataset(here), learner)
        for iteration in range(start, until):
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = values["meta_lr"], 0.0
            optimizer.param_groups[0]["weight_decay"] = values["meta_weight_decay"]
            batch = source.sample(values["meta_batch"], draws)
            noise = torch.randn(values["meta_batch"], 0, generator=draws)
            moment = Moment(iteration / spec.iterations, noise)
            found, _ = meta_gradient(
                learner, params, batch=batch, strategy=strategy(here), moment=moment
            )
            for name, gradient in found.items():
                params[name].grad = gradient
            torch.nn.utils.clip_grad_norm_([params[n] for n in found], MAX_GRADIENT_NORM)
            optimizer.step()
        start = until
    return params


def test_a_course_of_hyper_parameters_is_that_of_a_hand_written_loop(tmp_path: Path) -> None:
    reports = list(run_trial(SPEC, tmp_path / "trial.pt"))
    assert [report.iteration for report in reports] == [2, 4, 6]
    expected = by_hand(SPEC, [(2, FIRST), (4, SECOND), (6, LAST)])
    found = load_params(tmp_path / "trial.pt")
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value.detach(), rtol=1e-4, atol=1e-6)
    constant = by_hand(SPEC, [(6, LAST)])
    assert any((constant[n] - v).abs().max() > 1e-3 for n, v in found.items()), "it matters"


def test_going_on_from_another_trial_is_the_same_as_the_whole_course(tmp_path: Path) -> None:
    first = replace(SPEC, hyper=FIRST, earlier=(), keep_every=2)
    parent = tmp_path / "parent.pt"
    list(run_trial(first, parent))
    assert [kept(parent, at).exists() for at in (2, 4, 6)] == [True, True, False]
    heir = replace(SPEC, hyper=SECOND, earlier=((2, FIRST),), start=str(kept(parent, 2)))
    whole = replace(heir, start=None)
    ours, theirs = (list(run_trial(s, tmp_path / f"{s.start is None}.pt")) for s in (heir, whole))
    assert [r.iteration for r in ours] == [4, 6], "the parent's scores are its own"
    assert [r.score for r in ours] == [r.score for r in theirs[1:]]
    left, right = (load_params(tmp_path / f"{name}.pt") for name in (False, True))
    assert all(torch.equal(left[name], right[name]) for name in left)
    again = list(run_trial(heir, tmp_path / "False.pt"))
    assert again == ours[-1:], "once it has a checkpoint of its own, it goes on from that"


def test_a_killed_trial_goes_on_in_the_phase_where_it_was(tmp_path: Path) -> None:
    whole = list(run_trial(SPEC, tmp_path / "whole.pt"))
    for reports in (1, 2):
        path = tmp_path / f"{reports}.pt"
        list(itertools.islice(run_trial(SPEC, path), reports))
        rest = list(run_trial(SPEC, path))
        assert [r.score for r in rest] == [r.score for r in whole[reports - 1 :]]


def test_specs_of_all_kinds_survive_json() -> None:
    full = replace(
        SPEC, seconds=1.5, most_tasks=40, rivals=((2, 0.5),), start="x@2.pt", keep_every=2
    )
    for spec in (SPEC, full, replace(SPEC, earlier=())):
        assert TrialSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec
    plain = replace(SPEC, earlier=()).to_json()
    assert {"earlier", "rivals", "seconds", "initial"}.isdisjoint(plain)


@pytest.fixture
def tenths(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each look at the clock, one a meta-iteration, comes a tenth of a second after the last."""
    ticks = itertools.count()
    monkeypatch.setattr("autometa.trial.pace.time.perf_counter", lambda: next(ticks) / 10)


@pytest.mark.usefixtures("tenths")
@pytest.mark.parametrize(("seconds", "total"), [(6.0, 60), (0.25, 2), (0.01, 1)])
def test_a_time_affords_as_many_meta_iterations_as_fit(
    tmp_path: Path, seconds: float, total: int
) -> None:
    spec = replace(SPEC, earlier=(), iterations=1, validate_every=1, seconds=seconds)
    (report,) = run_trial(spec, tmp_path / "trial.pt")
    assert report.measures["meta_iterations"] == total


@pytest.mark.usefixtures("tenths")
def test_a_trial_with_a_time_reports_shares_of_it(tmp_path: Path) -> None:
    timed = replace(SPEC, earlier=(), iterations=3, validate_every=1, seconds=0.6)
    ours = list(run_trial(timed, tmp_path / "timed.pt"))
    counted = replace(SPEC, earlier=(), iterations=6, validate_every=2)
    theirs = list(run_trial(counted, tmp_path / "counted.pt"))
    assert [r.iteration for r in ours] == [1, 2, 3]
    assert [r.score for r in ours] == [r.score for r in theirs], "measuring it changed nothing"
    assert {r.measures["meta_iterations"] for r in ours} == {6}
    assert ours[-1].end == "complete"
    path = tmp_path / "killed.pt"
    list(itertools.islice(run_trial(timed, path), 1))
    slower = replace(timed, seconds=60.0)  # as if the machine were ten times as fast now
    assert [r.score for r in run_trial(slower, path)] == [r.score for r in ours]


@pytest.mark.parametrize(("away", "tasks"), [(0.0, 60), (0.9, 60), (1.1, 20)])
def test_a_score_within_its_interval_of_a_rival_is_looked_at_twice(
    tmp_path: Path, away: float, tasks: int
) -> None:
    spec = replace(SPEC, earlier=())
    plain = list(run_trial(spec, tmp_path / "plain.pt"))
    assert all("validation_tasks" not in r.measures for r in plain)
    last = plain[-1]
    rivals = ((6, last.score - away * last.ci95), (5, last.score))
    (*before, found) = run_trial(replace(spec, most_tasks=60, rivals=rivals), tmp_path / "x.pt")
    assert [r.score for r in before] == [r.score for r in plain[:-1]], "no rival there"
    assert found.measures["validation_tasks"] == tasks
    expected = score_checkpoint(spec, tmp_path / "plain.pt", "validation", "validation", tasks)
    assert found.score == expected.mean
