"""Steps that are computed again: the same meta-gradient, in memory with the root of the steps."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from autometa.engine.members import over_members, stacked
from autometa.engine.memory import peak_bytes, tensors_of
from autometa.engine.strategies import STRATEGIES, meta_gradient, task_scores
from autometa.episodes.task import Task
from autometa.learners import LEARNERS
from autometa.learners.base import REGRESSION, Learner, Moment, Params
from autometa.learners.fomaml import FOMAML, FOMAMLHyper
from autometa.learners.inner_loop import SteppedLearner
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.mamlpp import MAMLPP
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.learners.recompute import recomputed, unrolled
from autometa.testing.learners import random_moment
from autometa.testing.small import WAYS, small_encoder, small_tasks

ABLE = {"alfa", "bmaml", "maml", "mamlpp", "metasgd", "platipus", "protomaml"}
CASES = [
    (name, problem) for name in sorted(ABLE) for problem in sorted(LEARNERS.load(name).problems)
]
LEARNED = RateVector("learned", "layer", ((0.1,),))
OPTIONS: dict[str, dict[str, Any]] = {
    "alfa": {},
    "metasgd": {},
    # Every step counts, and in second order from the start.
    "mamlpp": {"order_annealing": False, "multi_step_share": 1.0},
}
Scene = tuple[Any, Params, Task, Moment]


def scene(name: str, problem: str, steps: int, *, tasks: int = 2, shots: int = 2) -> Scene:
    """A learner in doubles, whose rates are learned, and tasks with few queries."""
    cls = LEARNERS.load(name)
    hyper = cls.hyper_type(inner_steps=steps, **OPTIONS.get(name, {"inner_lr": LEARNED}))
    learner = cls(small_encoder(problem), hyper, problem)
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {key: value.double() for key, value in drawn.items()}
    batch = small_tasks(problem, tasks=tasks, shots=shots, queries=1)
    return learner, params, batch, random_moment(learner, params, batch)


def peak(learner: Learner[Any], strategy: str, params: Params, batch: Task, moment: Moment) -> int:
    def work() -> None:
        meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)

    return peak_bytes(work, [*params.values(), *tensors_of(batch)])


def test_the_learners_that_can() -> None:
    every = {name: LEARNERS.load(name) for name in LEARNERS}
    stepped = {name: each for name, each in every.items() if issubclass(each, SteppedLearner)}
    assert {name for name, each in stepped.items() if each.recomputes} == ABLE


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(("name", "problem"), CASES)
def test_the_meta_gradient_is_the_same(name: str, problem: str, strategy: str) -> None:
    learner, params, batch, moment = scene(name, problem, 5)
    threads = torch.get_num_threads()
    torch.set_num_threads(2 if strategy == "threads" else 1)
    given = {"batch": batch, "strategy": strategy, "moment": moment}
    try:
        expected, seen = meta_gradient(learner, params, **given)
        found, metrics = meta_gradient(learner.recomputing(), params, **given)
    finally:
        torch.set_num_threads(threads)
    torch.testing.assert_close(metrics, seen, rtol=1e-12, atol=1e-12)
    assert found.keys() == expected.keys() == learner.learned(params)
    for key, value in expected.items():
        # Rounding is as large as the sums that a gradient is of: biases before a norm have none.
        error = (found[key] - value).norm() / value.norm().clamp(min=1e-10)
        assert error < 1e-10, f"{key} differs"


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
@pytest.mark.parametrize(("name", "problem"), CASES)
def test_less_is_kept(name: str, problem: str, strategy: str) -> None:
    learner, *given = scene(name, problem, 16, tasks=1, shots=5)
    assert peak(learner.recomputing(), strategy, *given) < 0.5 * peak(learner, strategy, *given)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_memory_grows_with_the_square_root_of_the_steps(strategy: str) -> None:
    peaks: dict[bool, list[int]] = {False: [], True: []}
    for steps in (4, 16, 64):
        learner, *given = scene("maml", REGRESSION, steps, tasks=1, shots=10)
        for recompute, found in peaks.items():
            found.append(peak(replace(learner, recompute=recompute), strategy, *given))
    slopes = {kept: math.log(each[2] / each[1], 4) for kept, each in peaks.items()}
    assert slopes[False] == pytest.approx(1, abs=0.07)
    assert slopes[True] == pytest.approx(1 / 2, abs=0.07)
    assert peaks[True][0] < peaks[False][0]
    assert peaks[True][2] < 0.2 * peaks[False][2]


def test_scores_of_new_tasks_are_the_same() -> None:
    learner, params, batch, _ = scene("maml", REGRESSION, 5)
    for strategy in ("loop", "vmap"):
        expected, found = (
            task_scores(each, params, batch=batch, strategy=strategy)
            for each in (learner, learner.recomputing())
        )
        assert all(torch.equal(found[key], value) for key, value in expected.items())


def test_members_of_a_cohort_have_their_own_numbers_in_the_steps() -> None:
    """A number of each that only the steps have, and that isn't among their arguments."""
    learner, params, batch, moment = scene("bmaml", REGRESSION, 4)
    members = [
        replace(learner, hyper=replace(learner.hyper, prior_precision=precision)).recomputing()
        for precision in (0.0, 0.5, 1.0)
    ]

    def grads(learner: Learner[Any], params: Params) -> Params:
        return meta_gradient(learner, params, batch=batch, strategy="vmap", moment=moment)[0]

    found = over_members(grads, members, stacked([params] * 3))
    for position, member in enumerate(members):
        expected = grads(replace(member, recompute=False), params)
        own = {key: value[position] for key, value in found.items()}
        torch.testing.assert_close(own, expected, rtol=1e-9, atol=1e-9)
    assert not torch.allclose(found["head.weight"][0], found["head.weight"][2])


def test_nothing_is_offered_where_nothing_is_kept() -> None:
    encoder = small_encoder(REGRESSION)
    several = MAMLHyper(inner_steps=2)
    assert MAML(encoder, several, REGRESSION).recomputing() is not None
    alike: list[Learner[Any]] = [
        MAML(encoder, replace(several, inner_steps=1), REGRESSION),
        MAML(encoder, replace(several, order="first"), REGRESSION),
        FOMAML(encoder, FOMAMLHyper(inner_steps=2), REGRESSION),
        ProtoNet(small_encoder("classification"), ProtoNetHyper()),
    ]
    assert not any(each.recomputing() for each in alike)


def test_first_order_meta_gradients_of_mamlpp_are_the_same_too() -> None:
    learner, params, batch, moment = scene("mamlpp", REGRESSION, 3)
    assert isinstance(learner, MAMLPP)
    early = replace(learner, hyper=replace(learner.hyper, order_annealing=True))
    moment = replace(moment, progress=0.0)
    (expected, _), (found, _) = (
        meta_gradient(each, params, batch=batch, strategy="loop", moment=moment)
        for each in (early, early.recomputing())
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [0, 1, 2, 3, 5, 9, 10])
def test_a_chain_of_steps(steps: int) -> None:
    """Each with a row of its own and what is given to all, against the plain chain."""

    def step(state: Params, row: tuple[Tensor, int], factor: Tensor) -> Params:
        shift, power = row
        return {"x": state["x"].sin() * factor + shift**power, "y": state["y"] * state["x"]}

    generator = torch.Generator().manual_seed(0)

    def random() -> Tensor:
        return torch.randn(3, generator=generator, dtype=torch.float64, requires_grad=True)

    state, factor = {"x": random(), "y": random()}, random()
    rows = [(random(), 1 + i % 3) for i in range(steps)]
    weights = random()
    leaves = [*state.values(), factor, *(shift for shift, _ in rows)]

    def grads(recompute: bool) -> tuple[Tensor, ...]:
        end = unrolled(step, state, rows, factor, recompute=recompute)
        loss = (weights * (end["x"] + end["y"])).sum()
        return torch.autograd.grad(loss, leaves, materialize_grads=True)

    torch.testing.assert_close(grads(True), grads(False), rtol=1e-12, atol=1e-12)


def test_every_step_is_run_once_more() -> None:
    runs: list[int] = []

    def step(x: Tensor, row: int) -> Tensor:
        runs.append(row)
        return x.sin()

    x = torch.ones(2, requires_grad=True)
    end = unrolled(step, x, range(7), recompute=True)
    assert runs == list(range(7))
    end.sum().backward()
    assert runs[7:] == [6, 4, 5, 2, 3, 0, 1]


def test_what_is_computed_again_is_differentiated_once() -> None:
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(recomputed(torch.sin, x).prod(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        slope.sum().backward()
