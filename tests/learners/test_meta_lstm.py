"""The meta-learner LSTM against torch's own cell, a loop by hand, and first-order MAML."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import network
from torch import Tensor, nn

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.meta_lstm import MetaLSTM, MetaLSTMHyper, lstm_cell, preprocess
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks

STEPS, HIDDEN = 3, 5


class TestMetaLSTM(LearnerTestCase):
    learner = MetaLSTM
    hyper = MetaLSTMHyper(inner_steps=STEPS, hidden=HIDDEN, input_bias=-3.0)
    exact_gradient = False
    training_iterations = 15


def scene(**hyper: object) -> tuple[MetaLSTM, Params, Task]:
    """Weights of the meta-learner are large enough here for every one of them to matter."""
    values = {"inner_steps": STEPS, "hidden": HIDDEN, **hyper}
    learner = MetaLSTM(small_encoder(CLASSIFICATION), MetaLSTMHyper(**values))  # type: ignore[arg-type]
    params = {n: v.double() for n, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    for name in params:
        if name.startswith(("lstm.", "forget.weight", "input.weight")):
            params[name] = 40 * params[name]
    return learner, params, small_tasks(CLASSIFICATION)


def preprocess_by_hand(x: float) -> list[float]:
    if abs(x) >= math.exp(-10):
        return [math.log(abs(x)) / 10, math.copysign(1, x)]
    return [-1, math.exp(10) * x]


def by_hand(params: Params, batch: Task) -> tuple[Params, Tensor]:
    """Weight tensor by weight tensor with torch's LSTM cell; gradients and losses as numbers."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    names = [name for name in params if name.startswith(("encoder.", "head."))]
    cell = nn.LSTMCell(4, HIDDEN, dtype=torch.float64)
    own = {
        "weight_ih": leaves["lstm.weight_ih"],
        "weight_hh": leaves["lstm.weight_hh"],
        "bias_ih": leaves["lstm.bias"],
        "bias_hh": torch.zeros_like(leaves["lstm.bias"]),
    }
    total = torch.zeros((), dtype=torch.float64)
    for task in batch.unbind():
        theta = [leaves[name] for name in names]
        state = [None] * len(theta)
        gates = [
            (torch.zeros(w.numel(), 1).double(), torch.zeros(w.numel(), 1).double()) for w in theta
        ]
        for _ in range(STEPS):
            here = [w.detach().requires_grad_() for w in theta]
            loss = F.cross_entropy(network(CLASSIFICATION, here, task.support_x), task.support_y)
            grads = torch.autograd.grad(loss, here)
            told = preprocess_by_hand(loss.item())
            for k, (w, g) in enumerate(zip(theta, grads, strict=True)):
                seen = [[*preprocess_by_hand(each), *told] for each in g.flatten().tolist()]
                x = torch.tensor(seen, dtype=torch.float64)
                state[k] = torch.func.functional_call(cell, own, (x, state[k]))
                column = w.reshape(-1, 1)
                f, i = (
                    torch.sigmoid(
                        torch.cat([state[k][0], column, last], 1) @ leaves[f"{name}.weight"].T
                        + leaves[f"{name}.bias"]
                    )
                    for name, last in zip(("forget", "input"), gates[k], strict=True)
                )
                gates[k] = (f, i)
                theta[k] = (f * column + i * -g.reshape(-1, 1)).reshape(w.shape)
        total = total + F.cross_entropy(network(CLASSIFICATION, theta, task.query_x), task.query_y)
    total = total / len(batch.query_y)
    grads = torch.autograd.grad(total, list(leaves.values()))
    return dict(zip(leaves, grads, strict=True)), total.detach()


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_algorithm_by_hand(strategy: str) -> None:
    learner, params, batch = scene(input_bias=-1.5)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy)
    expected, loss = by_hand(params, batch)
    torch.testing.assert_close(metrics["loss"], loss, rtol=1e-9, atol=0)
    torch.testing.assert_close(grads, expected, rtol=1e-7, atol=1e-10)
    own = [g for name, g in grads.items() if name.startswith(("lstm.", "forget.", "input."))]
    assert len(own) == 7
    assert all(g.abs().max() > 1e-5 for g in own)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_with_constant_gates_it_is_first_order_maml(strategy: str) -> None:
    """f = 1 and i = α: θ_t = θ_{t−1} − α∇L."""
    alpha = 0.2
    learner, params, batch = scene()
    constant = {
        "forget.weight": torch.zeros_like(params["forget.weight"]),
        "input.weight": torch.zeros_like(params["input.weight"]),
        "forget.bias": torch.tensor([60.0], dtype=torch.float64),
        "input.bias": torch.tensor([math.log(alpha / (1 - alpha))], dtype=torch.float64),
    }
    hyper = MAMLHyper(
        inner_steps=STEPS, order="first", inner_lr=RateVector("fixed", "scalar", ((alpha,),))
    )
    maml = MAML(learner.encoder, hyper)
    network_params = {n: v for n, v in params.items() if n.startswith(("encoder.", "head."))}
    rates = {"inner_lr": torch.full((STEPS, 1), alpha, dtype=torch.float64)}
    task = next(batch.unbind())
    support = (task.support_x, task.support_y, task.ways)
    expected = maml.adapt(network_params | rates, *support)
    torch.testing.assert_close(learner.adapt(params | constant, *support), expected)
    grads, _ = meta_gradient(learner, params | constant, batch=batch, strategy=strategy)
    expected, _ = meta_gradient(maml, network_params | rates, batch=batch, strategy=strategy)
    shared = {name: grads[name] for name in expected}
    assert shared.keys() == network_params.keys()
    torch.testing.assert_close(shared, expected)


def test_it_begins_as_gradient_descent_of_a_small_rate() -> None:
    learner = MetaLSTM(small_encoder(CLASSIFICATION), MetaLSTMHyper(inner_steps=1))
    params = {n: v.double() for n, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    task = next(small_tasks(CLASSIFICATION).unbind())
    weights = {
        n: v.clone().requires_grad_() for n, v in params.items() if n[:4] in ("enco", "head")
    }
    loss = F.cross_entropy(
        network(CLASSIFICATION, list(weights.values()), task.support_x), task.support_y
    )
    grads = torch.autograd.grad(loss, list(weights.values()))
    adapted = learner.adapt(params, task.support_x, task.support_y, task.ways)
    for (name, w), g in zip(weights.items(), grads, strict=True):
        descended = 0.989 * w.detach() - 0.011 * g
        torch.testing.assert_close(adapted[name], descended, rtol=2e-3, atol=2e-4)


def test_the_cell_is_torchs() -> None:
    _, params, _ = scene()
    cell = nn.LSTMCell(4, HIDDEN, dtype=torch.float64)
    with torch.no_grad():
        cell.weight_ih.copy_(params["lstm.weight_ih"])
        cell.weight_hh.copy_(params["lstm.weight_hh"])
        cell.bias_ih.copy_(params["lstm.bias"])
        cell.bias_hh.zero_()
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(7, 4, generator=rng, dtype=torch.float64)
    h, c = torch.randn(2, 7, HIDDEN, generator=rng, dtype=torch.float64)
    torch.testing.assert_close(lstm_cell(params, x, h, c), cell(x, (h, c)))


def test_preprocessing_is_the_formula() -> None:
    edge = math.exp(-10)
    values = [0.0, 1e-9, -1e-6, 0.99 * edge, edge, -edge, 1.01 * edge, -0.03, 1.0, -250.0]
    expected = np.array([preprocess_by_hand(x) for x in values])
    actual = preprocess(torch.tensor(values, dtype=torch.float64))
    np.testing.assert_allclose(actual, expected, rtol=1e-12, atol=1e-15)


def test_other_ways_are_refused() -> None:
    learner, params, _ = scene()
    task = next(small_tasks(CLASSIFICATION, ways=4).unbind())
    with pytest.raises(ValueError, match="the task has 4 ways, but this head was trained for 3"):
        learner.adapt(params, task.support_x, task.support_y, task.ways)


def test_defaults_are_the_published_ones() -> None:
    hyper = MetaLSTMHyper()
    assert (hyper.meta_lr, hyper.meta_batch, hyper.inner_steps, hyper.hidden) == (1e-3, 1, 12, 20)
    assert 4 <= hyper.forget_bias <= 5
    assert -5 <= hyper.input_bias <= -4


@pytest.mark.parametrize("name", ["inner_steps", "hidden"])
def test_impossible_hyper_parameters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        MetaLSTMHyper(**{name: 0})
