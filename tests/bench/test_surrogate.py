"""The surrogate against the formula that its records come from."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from synthetic import record, records, space, truth

from autometa.bench.record import frozen_trial
from autometa.bench.surrogate import Surrogate, features_of


def test_it_interpolates_and_says_how_well() -> None:
    surrogate = Surrogate(space(), records(60))
    for rate, batch in ((0.002, 1), (0.013, 2), (0.06, 2)):
        params = {"protonet.meta_lr": rate, "protonet.meta_batch": batch}
        trial = frozen_trial(space(), params, 0.0)
        candidate: dict[str, Any] = {"learner": "protonet", "hyper": {}}
        found = surrogate.predict(trial.params, trial.distributions, candidate)
        assert found.scores == pytest.approx(truth(params), abs=0.01)
        assert found.seconds == pytest.approx(3 * batch, rel=0.05)
    errors = surrogate.errors()
    assert set(errors) == {"all", "protonet"}
    assert errors["all"] == errors["protonet"]
    assert errors["all"]["configurations"] == 60
    assert errors["all"]["rmse"] < 0.01
    assert errors["all"]["r2"] > 0.98
    assert errors["all"]["kendall_tau"] > 0.9


def test_its_error_is_that_of_noise_where_there_is_nothing_else_to_predict() -> None:
    random = np.random.default_rng(0)
    noisy = [replace(each, scores=tuple(random.normal(0.5, 0.1, 3))) for each in records(60)]
    error = Surrogate(space(), noisy).errors()["all"]
    assert error["rmse"] == pytest.approx(0.1, abs=0.03)
    assert error["r2"] < 0.2
    assert abs(error["kendall_tau"]) < 0.3


def test_chance_is_the_deviation_between_seeds() -> None:
    """The difference of two runs has twice the variance of one."""
    random, first = np.random.default_rng(1), records(60)

    def shaken(number: int, each: Any) -> Any:
        scores = tuple(score + random.normal(0, 0.02) for score in each.scores)
        return replace(each, number=number, origin="again", seed=1, scores=scores)

    once = [replace(shaken(i, each), origin="random") for i, each in enumerate(first)]
    twice = [shaken(60 + i, each) for i, each in enumerate(first)]
    small = Surrogate(space(), [*once, *twice])
    assert small.chance == pytest.approx(0.02, rel=0.3)
    assert Surrogate(space(), records(40)).chance == 0.0


def test_what_diverged_is_left_out() -> None:
    params = {"protonet.meta_lr": 0.09, "protonet.meta_batch": 1}
    wild = record(60, params, end="diverged", scores=(), iterations=())
    assert Surrogate(space(), [*records(60), wild]).errors()["all"]["configurations"] == 60


def test_features_are_numbers_on_their_own_scale_choices_and_rates_in_short() -> None:
    params = {"maml.meta_lr": 0.1, "maml.inner_steps": 2, "conv.pool": "avg"}
    distributions = {
        "maml.meta_lr": FloatDistribution(0.001, 1.0, log=True),
        "maml.inner_steps": IntDistribution(1, 5),
        "conv.pool": CategoricalDistribution(["max", "avg"]),
    }
    hyper = {"inner_lr": {"values": [[0.1, 0.01], [0.1, 0.03]]}}
    found = features_of(params, distributions, {"learner": "maml", "hyper": hyper})
    third = math.log(100) / math.log(1000) - 0.5
    assert found["maml.meta_lr"] == found["meta_lr"] == pytest.approx(third)
    assert found["maml.inner_steps"] == found["inner_steps"] == -0.25
    assert (found["conv.pool=max"], found["conv.pool=avg"]) == (0.0, 1.0)
    assert found["rates of the first step"] == pytest.approx(-1.5)
    assert found["rates of the last group"] == pytest.approx((-2 + math.log10(0.03)) / 2)
    assert found["rates together"] == pytest.approx((math.log10(0.2) + math.log10(0.04)) / 2)
    assert found["largest rate"] == pytest.approx(-1.0)
