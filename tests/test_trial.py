"""What a trial measures beside its score, and when."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from autometa.engine import STRATEGIES, checkpoint
from autometa.learners.hyper_json import to_json
from autometa.learners.maml import MAMLHyper
from autometa.learners.protonet import ProtoNetHyper
from autometa.trial import TrialSpec, load_params, run_trial, score_checkpoint

SPEC = TrialSpec(
    learner="protonet",
    hyper=to_json(ProtoNetHyper(meta_batch=1)),
    backbone="conv4",
    architecture={"width": 32},
    data="glyphs",
    data_options={"image_size": 16, "instances": 6},
    task={
        "ways": 3,
        "shots": 1,
        "queries": 2,
        "within_groups": False,
        "train_within_groups": False,
    },
    seed=1,
    iterations=4,
    validate_every=2,
    validation_tasks=5,
)


def reports(path: Path, spec: TrialSpec = SPEC, **options: Any) -> list[Any]:
    return list(run_trial(spec, path, **options))


def test_measures_are_taken_at_the_end_and_change_nothing_else(tmp_path: Path) -> None:
    plain = reports(tmp_path / "plain.pt")
    measured = reports(tmp_path / "measured.pt", measure=("adaptation", "memory", "ece"))
    assert [dict(r.measures) for r in plain] == [{}, {}]
    assert dict(measured[0].measures) == {}
    assert [r.score for r in measured] == [r.score for r in plain]
    before, after = (load_params(tmp_path / f"{name}.pt") for name in ("plain", "measured"))
    assert all(torch.equal(before[name], after[name]) for name in before)
    score = score_checkpoint(SPEC, tmp_path / "plain.pt", "validation", "validation", 5)
    assert measured[1].measures["ece"] == score.ece
    assert measured[1].measures["adaptation"] > 0
    assert measured[1].measures["memory"] > 0


def test_a_trial_that_had_ended_keeps_its_measures(tmp_path: Path) -> None:
    first = reports(tmp_path / "trial.pt", measure=["adaptation"])
    again = reports(tmp_path / "trial.pt", measure=["adaptation"])
    assert again == first[-1:]


def test_a_regression_has_no_calibration(tmp_path: Path) -> None:
    task = dict(SPEC.task) | {"ways": 1, "shots": 5}
    architecture = {"depth": 1, "activation": "relu", "linear1/width": 20}
    sinusoids = replace(SPEC, data="sinusoid", data_options={}, task=task)
    hyper = to_json(MAMLHyper(meta_batch=1, inner_steps=1))
    maml = replace(sinusoids, learner="maml", hyper=hyper)
    regression = replace(maml, backbone="mlp", architecture=architecture)
    (*_, last) = reports(tmp_path / "trial.pt", regression, measure=["ece", "adaptation"])
    assert set(last.measures) == {"adaptation"}


def test_a_score_has_the_scores_of_its_tasks(tmp_path: Path) -> None:
    reports(tmp_path / "trial.pt")
    few, many = (
        score_checkpoint(SPEC, tmp_path / "trial.pt", "validation", "rescore", tasks)
        for tasks in (20, 40)
    )
    assert len(many.scores) == many.tasks == 40
    assert few.scores == many.scores[:20], "a longer stream begins with the same tasks"
    assert abs(sum(many.scores) / 40 - many.mean) < 1e-12


def test_a_measured_strategy_is_kept_to_the_end_of_the_trial(tmp_path: Path) -> None:
    """Its scores are those of a trial that is told the same, also when it was stopped between."""
    spec = replace(SPEC, strategy="measured")
    running = run_trial(spec, tmp_path / "measured.pt")
    first = next(running)
    running.close()
    chosen = torch.load(tmp_path / "measured.pt", weights_only=True)["strategy"]
    assert chosen in STRATEGIES
    other = next(each for each in STRATEGIES if each != chosen)
    _tell(tmp_path / "measured.pt", strategy=other)  # what is measured anew would not be this
    repeated, *rest = run_trial(spec, tmp_path / "measured.pt")
    assert repeated.score == first.score
    assert rest
    assert torch.load(tmp_path / "measured.pt", weights_only=True)["strategy"] == other
    told = reports(tmp_path / "told.pt", replace(SPEC, strategy=chosen))
    assert told[0].score == first.score


def test_a_strategy_that_is_told_is_used(tmp_path: Path) -> None:
    for strategy in STRATEGIES:
        path = tmp_path / f"{strategy}.pt"
        scores = [r.score for r in reports(path, replace(SPEC, strategy=strategy))]
        assert all(0 <= score <= 1 for score in scores)
        assert torch.load(path, weights_only=True)["strategy"] == strategy


def _tell(path: Path, **changed: Any) -> None:
    checkpoint.save(path, checkpoint.load(path) | changed)
