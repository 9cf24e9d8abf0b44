"""Rate vectors that start where the search says and are learned from there, in every learner."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest
import torch

from autometa.engine import TrainState, meta_gradient, meta_train
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSIFICATION, Learner, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import MODES, RateVector
from autometa.testing.learners import LearnerTestCase, assert_same, predictions, random_moment
from autometa.testing.small import EasyFamily, small_encoder, small_tasks

VALUES = ((0.05, 0.1, 0.15), (0.2, 0.25, 0.3))
STEPS = len(VALUES)


def is_rated(name: str) -> bool:
    hyper_type = LEARNERS.load(name).hyper_type
    return any(isinstance(each.default, RateVector) for each in fields(hyper_type))


RATED = [name for name in LEARNERS if is_rated(name)]
META_TRAINED = [name for name in RATED if name != "scratch"]
# MAML++ learns its rates in any mode unless told not to; BMAML's chaser loss has constants in it.
OWN: dict[str, dict[str, Any]] = {
    "mamlpp": {"learned_rates": False, "first_order_share": 0.25},
    "bmaml": {"meta_loss": "likelihood", "particles": 2},
}


class TestMAMLWithRefinedRates(LearnerTestCase):
    learner = MAML
    hyper = MAMLHyper(inner_steps=STEPS, inner_lr=RateVector("refined", "layer", VALUES))


def learner_of(name: str, mode: str) -> Learner[Any]:
    """ANIL's rates are of its head alone, the last of the layers."""
    cls = LEARNERS.load(name)
    values = tuple(row[-1:] for row in VALUES) if name == "anil" else VALUES
    rates = RateVector(mode, "layer", values)
    hyper = cls.hyper_type(inner_steps=STEPS, inner_lr=rates, **OWN.get(name, {}))
    return cls(small_encoder(CLASSIFICATION), hyper)


def params_of(learner: Learner[Any]) -> Params:
    params = learner.init(3, torch.Generator().manual_seed(0))
    return {name: value.double() for name, value in params.items()}


def test_these_learners_have_rate_vectors() -> None:
    assert set(RATED) == {
        *("anil", "bmaml", "fomaml", "maml", "mamlpp", "platipus", "protomaml", "scratch"),
    }


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", META_TRAINED)
def test_all_modes_start_at_the_given_entries_and_two_of_them_learn(name: str, mode: str) -> None:
    learner = learner_of(name, mode)
    params = params_of(learner)
    values = torch.tensor(learner.hyper.inner_lr.values).double()
    torch.testing.assert_close(params["inner_lr"], values, rtol=0, atol=0)
    learns = mode in ("learned", "refined")
    assert learner.hyper.inner_lr.is_learned == learns
    assert ("inner_lr" in learner.learned(params)) == learns


@pytest.mark.parametrize("name", META_TRAINED)
def test_the_first_meta_iteration_is_that_of_searched_rates_but_for_the_rates(name: str) -> None:
    """The same predictions, the same loss, the same gradient of everything else, to the bit."""
    searched, refined = learner_of(name, "searched"), learner_of(name, "refined")
    params, batch = params_of(searched), small_tasks(CLASSIFICATION)
    assert_same(params, params_of(refined))
    moment = random_moment(searched, params, batch)
    (expected, metrics), (found, told) = (
        meta_gradient(each, params, batch=batch, strategy="loop", moment=moment)
        for each in (searched, refined)
    )
    assert_same(metrics, told)
    rates = found.pop("inner_lr")
    assert_same(expected, found)
    assert rates.abs().min() > 0
    task = next(batch.unbind())
    assert torch.equal(predictions(searched, params, task), predictions(refined, params, task))


def test_training_moves_the_rates_from_there() -> None:
    states = {}
    for mode in ("searched", "refined"):
        learner = learner_of("maml", mode)
        learner = replace(learner, hyper=replace(learner.hyper, meta_batch=2))
        start = learner.init(3, torch.Generator().manual_seed(0))
        state = TrainState.start(learner, start, torch.Generator().manual_seed(1))
        family = EasyFamily(CLASSIFICATION)
        next(meta_train(learner, state, source=family, iterations=5, strategy="loop"))
        states[mode] = state.params
    values = torch.tensor(VALUES)
    assert torch.equal(states["searched"].pop("inner_lr"), values)
    # Adam's first step is meta_lr in every entry.
    moved = (states["refined"].pop("inner_lr") - values).abs()
    torch.testing.assert_close(moved, torch.full_like(values, 1e-3), rtol=1e-3, atol=0)
    for name, value in states["searched"].items():
        torch.testing.assert_close(value, states["refined"][name])


@pytest.mark.parametrize("name", ["anil", "bmaml", "maml", "mamlpp", "platipus", "protomaml"])
def test_the_meta_gradient_of_each_rate_is_its_finite_difference(name: str) -> None:
    learner = learner_of(name, "refined")
    params, batch = params_of(learner), small_tasks(CLASSIFICATION)
    moment = random_moment(learner, params, batch)
    grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)

    def loss(rates: torch.Tensor) -> torch.Tensor:
        moved = params | {"inner_lr": rates}
        losses = [
            learner.objective(moved, task, replace(moment, noise=noise))[0]
            for task, noise in zip(batch.unbind(), moment.noise, strict=True)
        ]
        return torch.stack(losses).mean()

    rates, step = params["inner_lr"], 1e-6
    for entry in range(rates.numel()):
        away = torch.zeros_like(rates)
        away.view(-1)[entry] = step
        slope = (loss(rates + away) - loss(rates - away)) / (2 * step)
        torch.testing.assert_close(grads["inner_lr"].view(-1)[entry], slope, rtol=1e-5, atol=1e-8)
