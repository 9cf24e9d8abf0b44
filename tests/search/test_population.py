"""Population based training: who is cut, who goes on from whom, and what is explored."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import (
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.trial import TrialState, create_trial
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.export.bundle import describe
from autometa.report.candidates import hyper_texts
from autometa.search import run
from autometa.search.events import Interrupted, TrialStarted
from autometa.search.plan import spec_of
from autometa.search.population import CUT_AT, REPLACES, HeirSampler, heritage, perturbed
from autometa.search.schedulers import NOBODY, Stand, make_scheduler
from autometa.search.study import COMPLETE, PRUNED, load_optuna_study, rows_of
from autometa.trial import TrialSpec, load_params, train_to_end

Make = Callable[..., StudyConfig]
RATE = FloatDistribution(1e-4, 1e-2, log=True)


def trial(score: float, cut: bool = False, **attributes: Any) -> Any:
    candidate = {"learner": "maml", "backbone": "mlp", "hyper": {"meta_lr": score}}
    return create_trial(
        state=TrialState.PRUNED,
        params={"maml.meta_lr": 0.001, "maml.inner_steps": 2},
        distributions={"maml.meta_lr": RATE, "maml.inner_steps": IntDistribution(1, 3)},
        user_attrs={"candidate": candidate, **({CUT_AT: 10} if cut else {}), **attributes},
        intermediate_values={10: score},
    )


def study_of(*trials: Any) -> optuna.Study:
    study = optuna.create_study(direction="minimize")
    study.add_trials(trials)
    return study


def test_the_parent_is_among_the_best_share_of_those_that_went_on() -> None:
    scores = [0.5, 0.1, 0.9, 0.3, 0.2, math.nan, 0.4]
    study = study_of(*(trial(s) for s in scores), trial(0.0, cut=True))
    parents = {heritage(study, 0.34, 0, number).parent.number for number in range(60)}
    assert parents == {1, 3, 4}, "the three best of six; neither the diverged nor the cut one"
    found = heritage(study, 0.01, 0, 0)
    assert (found.parent.number, found.iteration, found.replaces) == (1, 10, 7)


def test_a_trial_is_replaced_once_the_oldest_first() -> None:
    cut = [trial(0.9, cut=True), trial(0.8, cut=True)]
    study = study_of(trial(0.1), *cut)
    assert heritage(study, 0.5, 0, 3).replaces == 1
    study.add_trial(trial(0.2, **{REPLACES: 1}))
    assert heritage(study, 0.5, 0, 4).replaces == 2
    died = trial(0.2, **{REPLACES: 2})
    del died.user_attrs["candidate"]
    study.add_trial(died)
    assert heritage(study, 0.5, 0, 5).replaces == 2, "an heir that was never whole is none"
    study.enqueue_trial({"maml.meta_lr": 0.001})
    assert heritage(study, 0.5, 0, 4) is None, "what is queued comes first"
    assert heritage(study_of(trial(0.1)), 0.5, 0, 1) is None


def test_the_course_grows_by_the_parents_part() -> None:
    parent = trial(0.25)
    parent.user_attrs["candidate"]["earlier"] = [[5, {"meta_lr": 0.5}]]
    study = study_of(parent, trial(0.9, cut=True))
    found = heritage(study, 0.5, 0, 2).candidate({"hyper": {"meta_lr": 0.125}})
    assert found["hyper"] == {"meta_lr": 0.125}
    assert found["earlier"] == [[5, {"meta_lr": 0.5}], [10, {"meta_lr": 0.25}]]
    assert found["start"] == "checkpoints/maml-mlp-000@10.pt"


@given(st.floats(1e-4, 1e-2), st.integers(1, 9), st.integers(0, 10**6))
def test_exploring_is_a_factor_or_a_neighbour_within_the_domain(
    rate: float, count: int, seed: int
) -> None:
    chance = random.Random(seed)
    changed = perturbed(rate, RATE, chance)
    assert any(math.isclose(changed, min(max(rate * factor, 1e-4), 1e-2)) for factor in (0.8, 1.2))
    batch = perturbed(count, IntDistribution(1, 9), chance)
    assert 1 <= batch <= 9
    assert abs(batch - count) <= max(1, round(0.2 * count))
    assert batch != count or count in (1, 9)
    options = CategoricalDistribution([1, 2, 4])
    assert perturbed(1, options, chance) in (1, 2)
    assert perturbed(2, options, chance) in (1, 4)


def test_an_heir_has_its_parents_values_but_for_the_outer_loops() -> None:
    parent, rates = trial(0.1), set()
    for seed in range(100):
        study = study_of(parent)
        study.sampler = HeirSampler(parent, optuna.samplers.RandomSampler(seed=0), seed)
        heir = study.ask()
        assert heir.suggest_int("maml.inner_steps", 1, 3) == 2
        rates.add(heir.suggest_float("maml.meta_lr", 1e-4, 1e-2, log=True))
    assert {0.0008, 0.0012} <= rates
    assert 10 < len(rates) < 45, "a quarter is drawn anew"


@given(st.lists(st.floats(0, 1), min_size=1, max_size=40), st.sampled_from([0.2, 0.25, 0.5]))
def test_the_worst_share_of_those_that_went_on_is_cut(scores: list[float], share: float) -> None:
    scheduler = {"name": "pbt", "grace": 100, "share": share}
    config = parse_config({"scheduler": scheduler, "budget": {"iterations": 200}})
    rule, onward = make_scheduler(config, [], "maximize"), list[float]()
    for number, score in enumerate(scores):
        stand = Stand(str(number))
        rule.on_trial_add(NOBODY, stand)
        decided = rule.on_trial_result(NOBODY, stand, {"iteration": 100, "score": score})
        place = sorted([*onward, score]).index(score)
        cut = place < int(share * (len(onward) + 1))
        assert decided == ("STOP" if cut else "CONTINUE")
        onward += [] if cut else [score]
        for at in (50, 200):  # no comparison; the end
            result = {"iteration": at, "score": score}
            assert rule.on_trial_result(NOBODY, stand, result) == "CONTINUE"


POPULATION = {
    "space": {"learners": {"maml": {"meta_lr": {"low": 1e-4, "high": 0.03}}}},
    "budget": {"trials": 18, "iterations": 20},
    "scheduler": {"name": "pbt", "grace": 4, "share": 0.5},
    "finalists": {"count": 1, "seeds": 1},
}


@pytest.fixture(scope="module")
def whole(
    small_in: Make, tmp_path_factory: pytest.TempPathFactory, wide_ray_here: None
) -> StudyConfig:
    """A search that nothing happened to, to be read."""
    config = small_in(tmp_path_factory.mktemp("population"), **POPULATION)
    run.search(config)
    return config


class TestSearch:
    """Whole searches on real Ray."""

    pytestmark = RAY_WARNINGS

    def test_an_heir_is_what_its_whole_course_trains(
        self, whole: StudyConfig, tmp_path: Path
    ) -> None:
        config, rows = whole, rows_of(load_optuna_study(whole))
        assert len(rows) == 18
        assert {row.end for row in rows} == {COMPLETE, PRUNED}
        heirs = [row for row in rows if row.candidate.get("earlier")]
        ended = [row for row in heirs if row.end == COMPLETE]
        assert len(heirs) > 3
        assert ended
        assert any(len(row.candidate["earlier"]) == 2 for row in heirs), "heirs have heirs"
        for row in heirs:
            assert min(row.curve) == row.candidate["earlier"][-1][0] + 4
        for row in ended[:2]:
            spec = spec_of(config, row.candidate)
            alone = TrialSpec(**(vars(spec) | {"start": None}))
            train_to_end(alone, tmp_path / "whole.pt")
            expected = load_params(tmp_path / "whole.pt")
            found = load_params(config.folder / "checkpoints" / f"{row.name}.pt")
            assert all(torch.equal(found[name], expected[name]) for name in expected)
            (tmp_path / "whole.pt").unlink()
        assert not list((config.folder / "checkpoints").glob("*@*"))
        check_told(config)

    def test_a_search_that_was_stopped_goes_on_as_if_it_had_not(
        self, small: Make, whole: StudyConfig
    ) -> None:
        begun = [0]

        def stop(event: Any) -> None:
            begun[0] += isinstance(event, TrialStarted)
            if begun[0] == 9:
                raise KeyboardInterrupt

        config = small(**POPULATION, baseline=None)
        with pytest.raises(Interrupted):
            run.search(config, stop)
        run.resume(config.folder)
        resumed, expected = (rows_of(load_optuna_study(each)) for each in (config, whole))
        assert [row.params for row in resumed] == [row.params for row in expected]
        assert [row.curve for row in resumed] == [row.curve for row in expected]


def check_told(config: StudyConfig) -> None:
    """The result, the report and the bundle's configuration name the course."""
    winner = json.loads((config.folder / "result.json").read_text())["winner"]
    spec = winner["spec"]
    assert "start" not in spec
    course = winner["candidate"].get("earlier", [])
    assert [until for until, _ in spec.get("earlier", [])] == [until for until, _ in course]
    if course:
        training = describe(config, winner)["training"]
        assert [part["until"] for part in training["earlier"]] == [until for until, _ in course]
        assert "until" in hyper_texts(winner["candidate"])["meta_lr"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"scheduler": {"grace": 5}}, "must be a multiple of validation.every"),
        ({"budget": {"trial_time": 60}}, "needs budget.trial_time left out"),
        ({"sampler": {"name": "grid"}}, "heirs of pbt are no points of a grid"),
        (
            {"space": {"learners": {"maml": {"meta_lr": 0.01, "meta_batch": 2}}}},
            "space.learners.maml searches none of meta_lr, meta_batch, meta_weight_decay",
        ),
    ],
)
def test_what_a_population_cannot_do_is_refused(
    small: Make, given: dict[str, Any], message: str
) -> None:
    base = {"scheduler": {"name": "pbt", "grace": 4}}
    joined = {key: base.get(key, {}) | given.get(key, {}) for key in {*base, *given}}
    with pytest.raises(ConfigError, match=message):
        run.plan(small(**joined))
