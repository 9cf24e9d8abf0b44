"""MAML against computations written without ``torch.func``, and in closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from by_hand import Identity, network
from torch import Tensor

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks

STEPS = 2
LAYERS = ("conv1", "conv2", "head")


def rates(mode: str, groups: str) -> RateVector:
    """Different in every step and group."""
    columns = {"scalar": 1, "layer": 3, "parameter": 10}[groups]
    return RateVector(
        mode,
        groups,
        tuple(tuple(0.05 + 0.1 * s + 0.03 * c for c in range(columns)) for s in range(STEPS)),
    )


class TestMAML(LearnerTestCase):
    learner = MAML
    hyper = MAMLHyper(inner_steps=STEPS)


class TestMAMLWithLearnedRates(LearnerTestCase):
    learner = MAML
    hyper = MAMLHyper(inner_steps=1, inner_lr=RateVector("learned", "layer", ((0.1,),)))


class TestFirstOrderMAML(LearnerTestCase):
    learner = MAML
    hyper = MAMLHyper(inner_steps=STEPS, order="first")
    exact_gradient = False


def scene(**hyper: object) -> tuple[MAML, Params, Task]:
    learner = MAML(small_encoder(CLASSIFICATION), MAMLHyper(inner_steps=STEPS, **hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(CLASSIFICATION)


def by_hand(params: Params, batch: Task, *, column: list[int], first_order: bool) -> Params:
    """Algorithm 2 of the paper with ``torch.autograd`` on lists."""
    names = [name for name in params if name != "inner_lr"]
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    total = torch.zeros((), dtype=torch.float64)
    for task in batch.unbind():
        weights = [leaves[name] for name in names]
        for step in range(STEPS):
            loss = F.cross_entropy(network(CLASSIFICATION, weights, task.support_x), task.support_y)
            grads = torch.autograd.grad(loss, weights, create_graph=not first_order)
            alphas = [leaves["inner_lr"][step, c] for c in column]
            weights = [w - a * g for w, a, g in zip(weights, alphas, grads, strict=True)]
        total = total + F.cross_entropy(
            network(CLASSIFICATION, weights, task.query_x), task.query_y
        )
    grads = torch.autograd.grad(total / len(batch.query_y), list(leaves.values()))
    return dict(zip(leaves, grads, strict=True))


COLUMNS = {
    "scalar": [0] * 10,
    "layer": [0] * 4 + [1] * 4 + [2] * 2,
    "parameter": list(range(10)),
}


@pytest.mark.parametrize("groups", COLUMNS)
@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_algorithm_by_hand(
    groups: str, order: str, strategy: str
) -> None:
    learner, params, batch = scene(order=order, inner_lr=rates("learned", groups))
    grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy)
    expected = by_hand(params, batch, column=COLUMNS[groups], first_order=order == "first")
    assert expected["inner_lr"].abs().min() > 0
    torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-10)


def test_first_and_second_order_differ() -> None:
    learner, params, batch = scene()
    first = replace(learner, hyper=replace(learner.hyper, order="first"))
    second_grads, second = meta_gradient(learner, params, batch=batch, strategy="loop")
    first_grads, metrics = meta_gradient(first, params, batch=batch, strategy="loop")
    assert metrics["loss"] == second["loss"]
    assert not torch.allclose(first_grads["head.weight"], second_grads["head.weight"], rtol=1e-3)


def test_fixed_and_searched_rates_are_left_alone() -> None:
    for mode in ("fixed", "searched"):
        learner, params, batch = scene(inner_lr=rates(mode, "layer"))
        grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop")
        assert grads.keys() == params.keys() - {"inner_lr"}


def test_linear_regression_has_the_closed_form() -> None:
    """One step on a quadratic loss: θ' = θ − α(Hθ − b), so ∇L_q = (I − αH)ᵀ (H_q θ' − b_q)."""
    alpha, features = 0.3, 4
    rng = torch.Generator().manual_seed(0)
    x, query_x = torch.randn(2, 6, features, generator=rng, dtype=torch.float64)
    y, query_y = torch.randn(2, 6, 1, generator=rng, dtype=torch.float64)
    hyper = MAMLHyper(inner_steps=1, inner_lr=RateVector("fixed", "scalar", ((alpha,),)))
    learner = MAML(Encoder(Identity(), features), hyper, REGRESSION)
    params = {n: v.double() for n, v in learner.init(1, rng).items()}
    params["inner_lr"].fill_(alpha)
    grads, metrics = learner.meta_grad(params, Task(x, y, query_x, query_y, ways=1))

    def quadratic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        return 2 * design.T @ design / len(x), 2 * design.T @ y / len(x)

    hessian, b = quadratic(x, y)
    query_hessian, query_b = quadratic(query_x, query_y)
    theta = torch.cat([params["head.weight"].T, params["head.bias"][None]])
    adapted = theta - alpha * (hessian @ theta - b)
    through = torch.eye(features + 1, dtype=torch.float64) - alpha * hessian
    expected = through.T @ (query_hessian @ adapted - query_b)
    actual = torch.cat([grads["head.weight"].T, grads["head.bias"][None]])
    torch.testing.assert_close(actual, expected)
    residual = query_x @ adapted[:-1] + adapted[-1] - query_y
    torch.testing.assert_close(metrics["loss"], residual.square().mean())


def test_rates_follow_the_layers_of_the_encoder() -> None:
    learner, params, _ = scene(inner_lr=RateVector("searched", "layer", ((0.1, 0.2, 0.3),) * STEPS))
    assert params["inner_lr"].shape == (STEPS, len(LAYERS))
    names = [name for name, _ in learner.encoder.module.named_parameters()]
    assert MAML.fast_parameters(names) == [*names, "head.weight", "head.bias"]


def test_rates_of_another_network_are_refused() -> None:
    with pytest.raises(ValueError, match="doesn't fit"):
        scene(inner_lr=RateVector("searched", "layer", ((0.1, 0.2),) * STEPS))


def test_other_ways_are_refused_with_a_way_out() -> None:
    learner, params, _ = scene()
    task = next(small_tasks(CLASSIFICATION, ways=4).unbind())
    with pytest.raises(ValueError, match="the task has 4 ways, but this head was trained for 3"):
        learner.adapt(params, task.support_x, task.support_y, task.ways)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"inner_steps": 0}, "inner_steps is 0"), ({"order": "third"}, "order is 'third'")],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAMLHyper(**wrong)  # type: ignore[arg-type]
