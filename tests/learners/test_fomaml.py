"""First-order MAML against MAML's own approximation, and the gradient at the adapted weights."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Params
from autometa.learners.fomaml import FOMAML, FOMAMLHyper
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

LEARNED = RateVector("learned", "layer", ((0.05, 0.1, 0.2), (0.3, 0.07, 0.11)))


class TestFOMAML(LearnerTestCase):
    learner = FOMAML
    hyper = FOMAMLHyper(inner_steps=2, inner_lr=LEARNED)
    exact_gradient = False


def scene(problem: str) -> tuple[FOMAML, Params, Task]:
    hyper = FOMAMLHyper(inner_steps=2, inner_lr=LEARNED)
    learner = FOMAML(small_encoder(problem), hyper, problem)
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(problem)


def by_hand(learner: FOMAML, params: Params, task: Task) -> tuple[Params, Tensor]:
    """Descend on leaves that are cut off after each step; then one plain gradient at θ'."""
    layers = ["conv1", "conv2", "head"] if learner.problem == CLASSIFICATION else ["fc1", "fc2"]
    column = {layer: i for i, layer in enumerate([*layers, "head"][:3])}
    error = F.cross_entropy if learner.problem == CLASSIFICATION else F.mse_loss
    names = [name for name in params if name != "inner_lr"]
    weights = {name: params[name] for name in names}

    def gradients(x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        encoder = {n[8:]: v for n, v in leaves.items() if n.startswith("encoder.")}
        features = functional_call(learner.encoder.module, encoder, (x,))
        loss = error(features @ leaves["head.weight"].T + leaves["head.bias"], y)
        return dict(zip(names, torch.autograd.grad(loss, leaves.values()), strict=True)), loss

    steps = []
    for step in range(2):
        grads, _ = gradients(task.support_x, task.support_y)
        steps.append(grads)
        for name in names:
            layer = name.removeprefix("encoder.").partition(".")[0]
            weights[name] = weights[name] - params["inner_lr"][step, column[layer]] * grads[name]
    outer, loss = gradients(task.query_x, task.query_y)
    rates = torch.zeros(2, 3, dtype=torch.float64)
    for step, grads in enumerate(steps):
        for name in names:
            layer = name.removeprefix("encoder.").partition(".")[0]
            rates[step, column[layer]] -= (outer[name] * grads[name]).sum()
    return outer | {"inner_lr": rates}, loss.detach()


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_the_query_gradient_at_the_adapted_weights(
    problem: str, strategy: str
) -> None:
    learner, params, batch = scene(problem)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy)
    expected = [by_hand(learner, params, task) for task in batch.unbind()]
    for name, actual in grads.items():
        mean = torch.stack([found[name] for found, _ in expected]).mean(0)
        torch.testing.assert_close(actual, mean, rtol=1e-8, atol=1e-10)
    loss = torch.stack([loss for _, loss in expected]).mean()
    torch.testing.assert_close(metrics["loss"], loss, rtol=1e-12, atol=0)


def test_it_is_maml_of_first_order_and_not_of_second() -> None:
    learner, params, batch = scene(CLASSIFICATION)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop")
    task = next(batch.unbind())
    for order in ("first", "second"):
        hyper = MAMLHyper(inner_steps=2, inner_lr=LEARNED, order=order)
        maml = MAML(learner.encoder, hyper)
        theirs, same = meta_gradient(maml, params, batch=batch, strategy="loop")
        equal = all(torch.equal(grads[name], theirs[name]) for name in theirs)
        assert equal == (order == "first")
        assert metrics == same
        assert torch.equal(predictions(learner, params, task), predictions(maml, params, task))
        start = maml.init(3, torch.Generator().manual_seed(0))
        assert all(torch.equal(value.double(), params[name]) for name, value in start.items())


def test_searched_rates_are_left_alone() -> None:
    hyper = FOMAMLHyper(inner_steps=2, inner_lr=RateVector("searched", "scalar", ((0.1,),)))
    learner = FOMAML(small_encoder(CLASSIFICATION), hyper)
    params = learner.init(3, torch.Generator())
    assert learner.learned(params) == params.keys() - {"inner_lr"}


def test_other_ways_are_refused() -> None:
    learner, params, _ = scene(CLASSIFICATION)
    task = next(small_tasks(CLASSIFICATION, ways=4).unbind())
    with pytest.raises(ValueError, match="the task has 4 ways, but this head was trained for 3"):
        learner.adapt(params, task.support_x, task.support_y, task.ways)
