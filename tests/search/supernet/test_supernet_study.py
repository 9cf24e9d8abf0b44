"""Studies with a super-net on real Ray and real SQLite."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray_warnings import RAY_WARNINGS
from small_studies import Searched, searched_whole

from autometa.backbones import BACKBONES
from autometa.config import StudyConfig, parse_config
from autometa.engine import checkpoint as checkpoints
from autometa.errors import ConfigError
from autometa.search import run
from autometa.search.events import Event, Phase, SearchStarted, TrialStarted
from autometa.search.folder import StudyFolder
from autometa.search.study import load_optuna_study, rows_of
from autometa.search.supernet.slices import sliced
from autometa.trial import TrialSpec, load_params

pytestmark = [pytest.mark.usefixtures("ray_here"), *RAY_WARNINGS]

GLYPHS: dict[str, Any] = {
    "name": "shared",
    "data": {"name": "glyphs", "options": {"image_size": 12}},
    "task": {"ways": 3, "shots": 1, "queries": 2},
    "space": {
        "learners": {"protonet": {"way_factor": 1}},
        "backbones": {"conv": {"depth": [2, 3], "width": [16, 32]}},
        "limits": {"max_parameters": 12000},
    },
    "budget": {"trials": 4, "iterations": 4},
    "validation": {"every": 2, "tasks": 4},
    "scheduler": {"name": "none"},
    "supernet": {
        "hyper": {"way_factor": 1},
        "iterations": 6,
        "candidates": 12,
        "tasks": 4,
        "keep": 2,
    },
    "finalists": {"count": 1, "seeds": 1, "tasks": 4},
    "test": {"tasks": 4},
    "baseline": {"hyper": {"way_factor": 1}},
    "resources": {"concurrency": 1},
}

Make = Callable[..., StudyConfig]


@pytest.fixture
def shared(tmp_path: Path) -> Make:
    def make(**over: Any) -> StudyConfig:
        return parse_config(GLYPHS | {"out": str(tmp_path / "study")} | over)

    return make


def ranking(config: StudyConfig) -> list[dict[str, Any]]:
    path = config.folder / "supernet" / "ranking.json"
    return list(json.loads(path.read_text())["networks"])


def curves(config: StudyConfig) -> list[Any]:
    return [(t.params, t.candidate, t.curve) for t in rows_of(load_optuna_study(config))]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, ray_here: None) -> Searched:
    """A search that nothing happened to, to be read."""
    place = tmp_path_factory.mktemp("shared")
    return searched_whole(parse_config(GLYPHS | {"out": str(place / "study")}))


def test_a_study_begins_with_what_its_supernet_ranks_best(whole: Searched) -> None:
    config = whole.config
    networks = ranking(config)
    assert len({json.dumps(each["architecture"], sort_keys=True) for each in networks}) == 12
    best = sorted(networks, key=lambda each: -each["score"])[:2]
    trials = rows_of(load_optuna_study(config))
    assert len(trials) == config.budget.trials
    assert [t.candidate["architecture"] for t in trials[:2]] == [b["architecture"] for b in best]
    assert trials[0].params["protonet.meta_lr"] != trials[1].params["protonet.meta_lr"]
    assert all(trial.candidate["parameters"] <= 12000 for trial in trials)
    check_inheritance(config, whole.folder, trials)
    check_phases(whole.events)


def check_inheritance(config: StudyConfig, folder: StudyFolder, trials: list[Any]) -> None:
    """Files hold each architecture's slices; finalists have them too, the baseline has none."""
    params = checkpoints.load(folder.path / "supernet" / "supernet.pt")["params"]
    shared = {name.removeprefix("encoder."): value for name, value in params.items()}
    for trial in trials:
        given = checkpoints.load(folder.path / trial.candidate["initial"])["params"]
        space = BACKBONES.load("conv")()
        network = space.build(trial.candidate["architecture"], (1, 12, 12)).module
        own = sliced(shared, network)
        assert {f"encoder.{name}" for name in own} == set(given)
        for name, value in own.items():
            assert torch.equal(given[f"encoder.{name}"], value)
    result = json.loads(folder.result.read_text())
    spec = TrialSpec.from_json(result["winner"]["spec"])
    assert spec.initial == str(folder.path / result["winner"]["candidate"]["initial"])
    assert "initial" not in result["baseline"]["spec"]


def check_phases(events: list[Event]) -> None:
    told = [(e.title, e.done, e.total) for e in events if isinstance(e, Phase)]
    assert [t for t in told if t[0] == "super-net"] == [("super-net", i, 6) for i in range(7)]
    assert [t for t in told if t[0] == "ranking"] == [("ranking", 0, 12), ("ranking", 12, 12)]
    begun, first_trial = (
        next(i for i, e in enumerate(events) if isinstance(e, kind))
        for kind in (SearchStarted, TrialStarted)
    )
    before = {e.title for e in events[begun:first_trial] if isinstance(e, Phase)}
    assert before == {"super-net", "ranking"}


def test_trials_start_from_the_inherited_weights(shared: Make) -> None:
    """With a rate too small to move a weight, they end where the super-net left them."""
    space = GLYPHS["space"] | {
        "learners": {"protonet": {"way_factor": 1, "meta_lr": {"low": 1e-12, "high": 1e-11}}}
    }
    config = shared(space=space)
    folder = run.search(config)
    for trial in rows_of(load_optuna_study(config)):
        given = checkpoints.load(folder.path / trial.candidate["initial"])["params"]
        trained = load_params(folder.checkpoint(trial.name))
        for name, value in given.items():
            torch.testing.assert_close(trained[name], value, atol=1e-9, rtol=0)


def test_without_inheritance_the_supernet_only_ranks(shared: Make) -> None:
    config = shared(supernet=GLYPHS["supernet"] | {"inherit": False})
    folder = run.search(config)
    trials = rows_of(load_optuna_study(config))
    best = sorted(ranking(config), key=lambda each: -each["score"])[:2]
    assert [t.candidate["architecture"] for t in trials[:2]] == [b["architecture"] for b in best]
    assert {trial.candidate["initial"] for trial in trials} == {None}
    assert not (folder.path / "supernet" / "weights").exists()


class Stop(Exception):  # noqa: N818
    """The process's end, as far as a study can tell."""


@pytest.mark.parametrize(("title", "done"), [("super-net", 3), ("ranking", 12)])
def test_a_stopped_phase_goes_on_to_the_same_trials(
    shared: Make, whole: Searched, title: str, done: int
) -> None:
    config = shared()

    def stop(event: Event) -> None:
        if isinstance(event, Phase) and (event.title, event.done) == (title, done):
            raise Stop

    with pytest.raises(Stop):
        run.search(config, stop)
    run.resume(config.folder)
    assert curves(config) == curves(whole.config)
    assert ranking(config) == ranking(whole.config)


def test_a_space_with_fewer_networks_than_candidates_is_ranked_whole(shared: Make) -> None:
    space = BACKBONES.load("conv")()
    fixed = {name: options[0] for name, options in space.choices((1, 12, 12)).items()}
    backbone = {**fixed, "depth": 2, "width": [16, 32]}
    config = shared(
        space={"learners": {"protonet": {"way_factor": 1}}, "backbones": {"conv": backbone}}
    )
    run.search(config)
    assert sorted(each["architecture"]["width"] for each in ranking(config)) == [16, 32]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"backbone": "cnov"}, "supernet.backbone is 'cnov'"),
        ({"learner": "maml"}, "supernet.learner is 'maml', whose head.weight depends"),
        ({"hyper": {"scale": [1.0, 2.0]}}, "supernet.hyper.scale is .* must be a single value"),
        ({"hyper": {"sacle": 1.0}}, "supernet.hyper.sacle is unknown"),
    ],
)
def test_what_no_supernet_can_be_is_refused(
    shared: Make, given: dict[str, Any], message: str
) -> None:
    config = shared(supernet=GLYPHS["supernet"] | {"hyper": {}} | given)
    with pytest.raises(ConfigError, match=message):
        run.search(config)
    assert not config.folder.exists()


def test_of_several_backbones_one_must_be_named(shared: Make) -> None:
    config = shared(space=GLYPHS["space"] | {"backbones": ["conv", "conv4"]})
    with pytest.raises(
        ConfigError, match=r"supernet\.backbone is missing: name one of conv, conv4"
    ):
        run.search(config)


@pytest.mark.parametrize(
    ("over", "message"),
    [
        ({"supernet": {"keep": 9}}, r"supernet\.keep is 9, .* budget\.trials \(4\)"),
        ({"supernet": {"keep": 3, "candidates": 2}}, r"keep is 3, .*candidates \(2\)"),
        ({"supernet": {"kepe": 3}}, "did you mean 'keep'"),
    ],
)
def test_impossible_numbers_are_refused(shared: Make, over: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        shared(**over)
