"""Steps on a new task other than in meta-training, and the order by which training takes them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from by_hand import network

from autometa.engine import meta_gradient
from autometa.engine.evaluate import meta_evaluate
from autometa.episodes.task import Task
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSIFICATION, Learner, Params
from autometa.learners.inner_loop import StepsHyper
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector, step_rows
from autometa.testing.learners import assert_same, predictions, random_moment
from autometa.testing.small import EasyFamily, small_encoder, small_tasks

STEPS = 2
RATES = RateVector("refined", "layer", ((0.05, 0.1, 0.15), (0.2, 0.25, 0.3)))
# What has a row a step in the meta-parameters of some learner.
TABLES = ("inner_lr", "inner_decay", "affine.", "running.")
STEPPED = [name for name in LEARNERS if issubclass(LEARNERS.load(name).hyper_type, StepsHyper)]


def of_steps(name: str, inner: int, evaluation: int) -> Learner[Any]:
    cls = LEARNERS.load(name)
    hyper = cls.hyper_type(inner_steps=inner, evaluation_steps=evaluation)
    return cls(small_encoder(CLASSIFICATION), hyper)


def params_of(learner: Learner[Any]) -> Params:
    """Meta-parameters with noise in every row, so that steps differ."""
    generator = torch.Generator().manual_seed(0)
    params = {n: v.double() for n, v in learner.init(3, generator).items()}
    for name, value in params.items():
        if name.startswith(TABLES):
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            params[name] = value * (1 + noise)
    return params


def cut_or_repeated(params: Params, steps: int) -> Params:
    """The first rows of every table, or the last one as often as it takes."""

    def rows(table: torch.Tensor) -> torch.Tensor:
        more = steps - len(table)
        return torch.cat([table, *[table[-1:]] * more]) if more > 0 else table[:steps]

    return {n: rows(v) if n.startswith(TABLES) else v for n, v in params.items()}


def test_these_learners_have_them() -> None:
    assert set(STEPPED) == {
        *("alfa", "anil", "bmaml", "fomaml", "imaml", "maml", "mamlpp", "metasgd"),
        *("platipus", "protomaml", "scratch"),
    }


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_maml_adapts_by_the_loop_written_by_hand(steps: int) -> None:
    """Four steps go by the two rows there are, and then by the second again."""
    hyper = MAMLHyper(inner_steps=STEPS, inner_lr=RATES, evaluation_steps=steps)
    learner = MAML(small_encoder(CLASSIFICATION), hyper)
    params = {n: v.double() for n, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    assert params["inner_lr"].shape == (STEPS, 3)
    task = next(small_tasks(CLASSIFICATION).unbind())
    weights = [v.clone().requires_grad_() for n, v in params.items() if n != "inner_lr"]
    for step in range(steps):
        row = params["inner_lr"][0 if step == 0 else 1]
        rates = [row[0]] * 4 + [row[1]] * 4 + [row[2]] * 2
        loss = F.cross_entropy(network(CLASSIFICATION, weights, task.support_x), task.support_y)
        grads = torch.autograd.grad(loss, weights)
        weights = [
            (w - rate * g).detach().requires_grad_()
            for w, g, rate in zip(weights, grads, rates, strict=True)
        ]
    expected = network(CLASSIFICATION, weights, task.query_x)
    torch.testing.assert_close(predictions(learner, params, task), expected)


@pytest.mark.parametrize("steps", [1, 4])
@pytest.mark.parametrize("name", STEPPED)
def test_a_new_task_is_adapted_to_as_by_a_learner_of_these_steps(name: str, steps: int) -> None:
    learner = of_steps(name, STEPS, steps)
    params = params_of(learner)
    task = next(small_tasks(CLASSIFICATION).unbind())
    expected = predictions(of_steps(name, steps, 0), cut_or_repeated(params, steps), task)
    torch.testing.assert_close(predictions(learner, params, task), expected)
    assert not torch.allclose(expected, predictions(of_steps(name, STEPS, 0), params, task))


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
@pytest.mark.parametrize("name", STEPPED)
def test_meta_training_takes_no_notice_of_them(name: str, strategy: str) -> None:
    learner, plain = of_steps(name, STEPS, 4), of_steps(name, STEPS, 0)
    params, batch = params_of(learner), small_tasks(CLASSIFICATION)
    moment = random_moment(learner, params, batch)
    found, expected = (
        meta_gradient(each, params, batch=batch, strategy=strategy, moment=moment)
        for each in (learner, plain)
    )
    assert_same(expected[0], found[0])
    assert_same(expected[1], found[1])


def test_meta_evaluation_takes_them() -> None:
    learner, plain = of_steps("maml", STEPS, 8), of_steps("maml", STEPS, 0)
    params = plain.init(3, torch.Generator().manual_seed(0))
    longer = of_steps("maml", 8, 0)

    def loss(learner: Learner[Any], params: Params) -> float:
        return meta_evaluate(
            learner,
            params,
            source=EasyFamily(CLASSIFICATION),
            tasks=4,
            generator=torch.Generator().manual_seed(1),
            batch=2,
            strategy="loop",
        ).loss

    assert loss(learner, params) == loss(longer, cut_or_repeated(params, 8)) != loss(plain, params)


def test_rows_beyond_a_table_are_its_last() -> None:
    table = torch.arange(6.0).view(3, 2)
    rows = torch.stack(list(step_rows(table, 5)))
    torch.testing.assert_close(rows, table[[0, 1, 2, 2, 2]], rtol=0, atol=0)
    torch.testing.assert_close(torch.stack(list(step_rows(table, 2))), table[:2], rtol=0, atol=0)


def test_less_than_none_is_refused() -> None:
    with pytest.raises(ValueError, match="evaluation_steps is -1, but must be at least 0"):
        MAMLHyper(evaluation_steps=-1)


def orders(name: str, order: str, **hyper: Any) -> Learner[Any]:
    cls = LEARNERS.load(name)
    made = cls.hyper_type(inner_steps=STEPS, order=order, **hyper)
    return cls(small_encoder(CLASSIFICATION), made)


@pytest.mark.parametrize("name", ["alfa", "anil", "maml", "protomaml"])
def test_an_annealed_order_is_the_first_and_then_the_second(name: str) -> None:
    batch: Task = small_tasks(CLASSIFICATION)
    learner = orders(name, "annealed", first_order_share=0.4)
    params = params_of(learner)
    start = random_moment(learner, params, batch)
    found = {}
    for order, progress in (("first", 0.39), ("second", 0.4)):
        moment = replace(start, progress=progress)
        fixed = orders(name, order)
        expected, found[order] = (
            meta_gradient(each, params, batch=batch, strategy="loop", moment=moment)[0]
            for each in (fixed, learner)
        )
        assert_same(expected, found[order])
    different = [n for n, g in found["first"].items() if not torch.allclose(g, found["second"][n])]
    assert different


@pytest.mark.parametrize("name", ["alfa", "maml"])
def test_a_share_is_a_share(name: str) -> None:
    with pytest.raises(ValueError, match=r"first_order_share is 1.5, but must be in \[0, 1\]"):
        orders(name, "annealed", first_order_share=1.5)
