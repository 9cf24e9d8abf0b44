"""A super-net's meta-training: its gradient by hand, resumption, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autometa import episodes
from autometa.backbones import BACKBONES
from autometa.config import LimitsConfig
from autometa.engine import checkpoint as checkpoints
from autometa.engine.strategies import meta_gradient
from autometa.episodes import stream
from autometa.errors import ConfigError
from autometa.learners import LEARNERS
from autometa.learners.base import START, Encoder, Moment, prefixed
from autometa.learners.hyper_json import to_json
from autometa.search.space import RandomSuggest
from autometa.search.supernet.slices import sliced
from autometa.search.supernet.training import (
    Job,
    PathGradient,
    check_learner,
    initial,
    save_weights,
    score,
    train,
)
from autometa.trial import (
    TrialSpec,
    build_learner,
    dataset,
    load_params,
    run_trial,
    training_source,
)

IMAGE = (1, 14, 14)
TASK = {"ways": 3, "shots": 1, "queries": 2, "within_groups": False, "train_within_groups": False}


def job_of(learner: str = "protonet", **hyper: Any) -> Job:
    space = BACKBONES.load("conv")()
    cls = LEARNERS.load(learner)
    data = {"data": "glyphs", "data_options": {"image_size": 14}, "task": TASK}
    spec = TrialSpec(
        learner=learner,
        hyper=to_json(cls.hyper_type(**hyper)),
        backbone="conv",
        architecture=space.default(),
        seed=0,
        iterations=6,
        validate_every=6,
        validation_tasks=2,
        **data,
    )
    narrow = {**space.choices(IMAGE), "width": (16, 32), "depth": (2, 3)}
    return Job(spec, narrow, LimitsConfig())


def test_the_gradient_is_that_of_the_drawn_network_in_the_shared_weights() -> None:
    """Autograd through the slicing, where ours scatters the network's own gradient."""
    job = job_of(way_factor=1)
    learner, _ = build_learner(job.spec)
    paths = job.paths(IMAGE)
    params = initial(job, paths, learner)
    source = training_source(job.spec, dataset(job.spec), learner)
    batch = source.sample(2, stream(0, "tasks"))
    moment = Moment(0.25, torch.empty(2, 0))
    grads, metrics = PathGradient(paths, 7)(
        learner, params, batch=batch, strategy="loop", moment=moment
    )

    backbone = paths.draw("7/0.25")
    own = replace(learner, encoder=Encoder(backbone.module, backbone.features))
    shared = {name: value.clone().requires_grad_() for name, value in params.items()}
    encoder = {name.removeprefix("encoder."): value for name, value in shared.items()}
    weights = prefixed("encoder", sliced(encoder, backbone.module))
    weights["log_scale"] = params["log_scale"]
    losses = [own.objective(weights, task, START)[0] for task in batch.unbind()]
    torch.stack(losses).mean().backward()
    assert set(grads) == set(params) - {"log_scale"}
    used = 0
    for name, value in grads.items():
        by_hand = shared[name].grad
        expected = torch.zeros_like(value) if by_hand is None else by_hand
        torch.testing.assert_close(value, expected)
        used += by_hand is not None
    assert 0 < used < len(grads)
    torch.testing.assert_close(metrics["loss"], torch.stack(losses).mean().detach())


def test_paths_differ_between_moments_and_are_the_same_at_one() -> None:
    paths = job_of().paths(IMAGE)
    drawn = [repr(paths.draw(f"0/{iteration / 20}").module) for iteration in range(20)]
    assert len(set(drawn)) > 10
    assert repr(paths.draw("0/0.5").module) == drawn[10]


def test_paths_are_within_the_limits_and_uniform() -> None:
    job = replace(job_of(), limits=LimitsConfig(max_parameters=8000))
    sizes = [job.paths(IMAGE).draw(str(seed)).parameters for seed in range(20)]
    assert max(sizes) <= 8000
    paths = job_of().paths(IMAGE)
    depths = [paths.choices.draw(RandomSuggest(str(i)), "conv")["depth"] for i in range(400)]
    assert 160 < depths.count(2) < 240


def test_impossible_limits_are_refused() -> None:
    job = replace(job_of(), limits=LimitsConfig(max_parameters=10))
    with pytest.raises(ConfigError, match="random networks in a row exceed"):
        job.paths(IMAGE).draw("0")


def test_training_that_was_stopped_goes_on_to_the_bit(tmp_path: Path) -> None:
    job = job_of(way_factor=1)
    train(job, tmp_path / "whole.pt", 6)
    for until in (2, 2, 6):
        train(job, tmp_path / "pieces.pt", until)
    whole, pieces = (checkpoints.load(tmp_path / f"{name}.pt") for name in ("whole", "pieces"))
    assert whole["iteration"] == pieces["iteration"] == 6
    for name, value in whole["params"].items():
        assert torch.equal(value, pieces["params"][name]), name


def test_a_job_is_the_same_after_json() -> None:
    job = replace(job_of(), limits=LimitsConfig(max_macs=10**6))
    again = Job.from_json(job.to_json())
    assert again.spec == job.spec
    assert again.limits == job.limits
    assert again.paths(IMAGE).choices.options == job.paths(IMAGE).choices.options


def test_a_trial_starts_from_the_slices_that_were_saved(tmp_path: Path) -> None:
    """Its first step is from there along the gradient there; otherwise all would be far off."""
    job = job_of(way_factor=1)
    train(job, tmp_path / "supernet.pt", 3)
    sample = job.paths(IMAGE).choices.draw(RandomSuggest("some"), "conv")
    backbone = BACKBONES.load("conv")().build(sample, IMAGE)
    params = checkpoints.load(tmp_path / "supernet.pt")["params"]
    save_weights(params, backbone, tmp_path / "initial.pt")
    spec = replace(job.spec, architecture=sample, initial=str(tmp_path / "initial.pt"))
    learner, _ = build_learner(spec)
    start = checkpoints.load(tmp_path / "initial.pt")["params"] | {"log_scale": params["log_scale"]}
    batch = dataset(spec).source("train", _shape()).sample(1, stream(spec.seed, "train"))
    grads, _ = meta_gradient(learner, start, batch=batch, strategy="loop")
    rate = learner.hyper.meta_lr
    (report,) = list(
        run_trial(replace(spec, iterations=1, validate_every=1), tmp_path / "trial.pt")
    )
    assert report.end == "complete"
    for name, value in load_params(tmp_path / "trial.pt").items():
        moved = value - start[name]
        if name in grads:  # Adam's first step is the rate times the gradient's sign
            clear = grads[name].abs() > 1e-4
            expected = -rate * grads[name].sign()
            torch.testing.assert_close(moved[clear], expected[clear], atol=1e-4, rtol=0)


def test_a_score_is_that_of_a_network_with_the_weights_it_would_inherit(tmp_path: Path) -> None:
    job = job_of(way_factor=1)
    train(job, tmp_path / "supernet.pt", 3)
    params = checkpoints.load(tmp_path / "supernet.pt")["params"]
    samples = [job.paths(IMAGE).choices.draw(RandomSuggest(str(i)), "conv") for i in range(3)]
    by_hand = []
    for sample in samples:
        backbone = BACKBONES.load("conv")().build(sample, IMAGE)
        save_weights(params, backbone, tmp_path / "one.pt")
        learner, _ = build_learner(replace(job.spec, architecture=sample))
        weights = checkpoints.load(tmp_path / "one.pt")["params"] | {"log_scale": torch.zeros(())}
        batch = dataset(job.spec).source("validation", _shape()).sample(5, stream(0, "supernet"))
        with torch.no_grad():
            predictions = [learner.query_loss(weights, task)[1] for task in batch.unbind()]
        hits = [p.argmax(1) == t.query_y for p, t in zip(predictions, batch.unbind(), strict=True)]
        by_hand.append(float(torch.stack(hits).double().mean()))
    found = score(job, tmp_path / "supernet.pt", samples, 5)
    assert found == pytest.approx(by_hand, abs=1e-6)
    assert len(set(by_hand)) > 1


def _shape() -> episodes.EpisodeShape:
    return episodes.EpisodeShape(TASK["ways"], TASK["shots"], TASK["queries"])


def test_weights_of_another_network_are_left_alone(tmp_path: Path) -> None:
    job = job_of(way_factor=1)
    train(job, tmp_path / "supernet.pt", 1)
    params = checkpoints.load(tmp_path / "supernet.pt")["params"]
    space = BACKBONES.load("conv")()
    narrow = {
        label: option
        for label, option in {**space.default(), "width": 16, "depth": 2}.items()
        if label[:5] not in ("conv3", "conv4")
    }
    save_weights(params, space.build(narrow, IMAGE), tmp_path / "initial.pt")
    wide = replace(job.spec, architecture={**narrow, "width": 32}, iterations=1, validate_every=1)
    trained = []
    for initial_file in (None, str(tmp_path / "initial.pt")):
        path = tmp_path / f"{initial_file is None}.pt"
        list(run_trial(replace(wide, initial=initial_file), path))
        trained.append(load_params(path))
    for name, value in trained[0].items():
        assert torch.equal(value, trained[1][name])


@pytest.mark.parametrize("name", ["protonet", "r2d2", "imp", "metaoptnet"])
def test_learners_of_features_alone_can_train_one(name: str) -> None:
    check_learner(job_of(name), episodes.load("glyphs", {"image_size": 14}))


@pytest.mark.parametrize(
    ("name", "why"),
    [("maml", "whose head.weight depends"), ("nearest", "which trains no backbone")],
)
def test_learners_with_weights_for_one_network_are_refused(name: str, why: str) -> None:
    with pytest.raises(ConfigError, match=f"supernet.learner is '{name}', {why}"):
        check_learner(job_of(name), episodes.load("glyphs", {"image_size": 14}))
