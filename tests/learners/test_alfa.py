"""ALFA against MAML, and against its algorithm written out with ``torch.autograd``."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.alfa import ALFA, ALFAHyper
from autometa.learners.base import CLASSIFICATION, REGRESSION, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

STEPS = 2
GROUPS = {
    "layer": [0] * 4 + [1] * 4 + [2] * 2,
    "parameter": list(range(10)),
}


class TestALFA(LearnerTestCase):
    learner = ALFA
    hyper = ALFAHyper(inner_steps=STEPS, inner_lr=0.1)


class TestALFAFromRandomInitialization(LearnerTestCase):
    learner = ALFA
    hyper = ALFAHyper(inner_steps=1, inner_lr=0.5, initialization="random")
    training_lr = 5e-2


class TestFirstOrderALFA(LearnerTestCase):
    learner = ALFA
    hyper = ALFAHyper(inner_steps=1, inner_lr=0.3, groups="parameter", order="first")
    exact_gradient = False
    training_lr = 3e-2
    training_iterations = 15


def scene(problem: str = CLASSIFICATION, **hyper: Any) -> tuple[ALFA, Params, Task]:
    """With decays large enough to matter, and factors that differ in every step and group."""
    hyper = {"inner_steps": STEPS, "inner_lr": 0.3, "weight_decay": 0.5, **hyper}
    learner = ALFA(small_encoder(problem), ALFAHyper(**hyper), problem)
    generator = torch.Generator().manual_seed(0)
    params = {n: v.double() for n, v in learner.init(3, generator).items()}
    for name, value in params.items():
        if name.startswith(("inner_", "decay.")):
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            params[name] = value * (0.5 + noise)
    return learner, params, small_tasks(problem)


def network_names(params: Params) -> list[str]:
    return [name for name in params if name.startswith(("encoder.", "head."))]


def by_hand(learner: ALFA, leaves: Params, task: Task, groups: list[int]) -> tuple[Tensor, Tensor]:
    """Query loss and logits; algorithm 1 on lists of tensors in the order of the modules."""
    names = network_names(leaves)
    weights = [leaves[name] for name in names]
    count = max(groups) + 1
    members = [[i for i, g in enumerate(groups) if g == group] for group in range(count)]

    def outputs(x: Tensor) -> Tensor:
        pairs = zip(names, weights, strict=True)
        inside = {n.removeprefix("encoder."): w for n, w in pairs if n.startswith("encoder.")}
        features = functional_call(learner.encoder.module, inside, (x,))
        return features @ weights[-2].T + weights[-1]

    def loss(output: Tensor, y: Tensor) -> Tensor:
        if learner.problem == REGRESSION:
            return (output - y).square().mean()
        return F.nll_loss(output.log_softmax(-1), y)

    for step in range(STEPS):
        grads = torch.autograd.grad(
            loss(outputs(task.support_x), task.support_y), weights, create_graph=True
        )
        if learner.hyper.order == "first":
            grads = tuple(g.detach() for g in grads)
        state = [
            sum(tensors[i].sum() for i in inside) / sum(tensors[i].numel() for i in inside)
            for tensors in (weights, grads)
            for inside in members
        ]
        hidden = leaves["generator.0.weight"] @ torch.stack(state) + leaves["generator.0.bias"]
        made = leaves["generator.2.weight"] @ hidden.clamp(min=0) + leaves["generator.2.bias"]
        moved = []
        for name, w, g, group in zip(names, weights, grads, groups, strict=True):
            alpha = leaves["inner_lr"][step, group] * made[group]
            decay = leaves["inner_decay"][step, group] * made[count + group]
            if learner.hyper.initialization == "random":
                decay = decay * leaves[f"decay.{name}"]
            moved.append((1 - decay) * w - alpha * g)
        weights = moved
    output = outputs(task.query_x)
    return loss(output, task.query_y), output


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("initialization", ["learned", "random"])
@pytest.mark.parametrize("groups", GROUPS)
def test_meta_gradient_is_that_of_the_algorithm_by_hand(
    problem: str, order: str, initialization: str, groups: str
) -> None:
    learner, params, batch = scene(
        problem, order=order, initialization=initialization, groups=groups
    )
    index = GROUPS[groups]
    if problem == REGRESSION:
        index = [0, 0, 1, 1, 2, 2] if groups == "layer" else list(range(6))
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    losses = [by_hand(learner, leaves, task, index)[0] for task in batch.unbind()]
    names = sorted(learner.learned(params))
    found = torch.autograd.grad(torch.stack(losses).mean(), [leaves[name] for name in names])
    expected = dict(zip(names, found, strict=True))
    assert all(g.abs().max() > 0 for g in found)
    for strategy in ("loop", "vmap"):
        grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy)
        torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-10)


def test_logits_are_those_of_the_algorithm_by_hand() -> None:
    learner, params, batch = scene()
    task = next(batch.unbind())
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    _, expected = by_hand(learner, leaves, task, GROUPS["layer"])
    torch.testing.assert_close(predictions(learner, params, task), expected.detach())


def constant(params: Params, alpha: float, decay: float) -> Params:
    """A generator that makes the same of every state."""
    count = params["inner_lr"].shape[1]
    made = torch.tensor([alpha] * count + [decay] * count, dtype=torch.float64)
    still = {n: torch.zeros_like(v) for n, v in params.items() if n.startswith("generator.")}
    return params | still | {"generator.2.bias": made}


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
def test_with_constant_rates_and_no_decay_it_is_maml(problem: str) -> None:
    learner, params, batch = scene(problem)
    params = constant(params, 1.0, 0.0)
    vector = RateVector("learned", "layer", ((0.1,),))
    maml = MAML(learner.encoder, MAMLHyper(inner_steps=STEPS, inner_lr=vector), problem)
    theirs = {name: params[name] for name in [*network_names(params), "inner_lr"]}
    task = next(batch.unbind())
    assert torch.equal(predictions(learner, params, task), predictions(maml, theirs, task))
    expected, told = meta_gradient(maml, theirs, batch=batch, strategy="loop")
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop")
    assert told == metrics
    actual = {name: grads[name] for name in expected}
    torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-14)


def test_decay_is_the_step_on_a_loss_with_an_l2_penalty() -> None:
    """θ − α ∇(L + λ/2 |θ|²) = (1 − αλ) θ − α ∇L."""
    learner, params, batch = scene(inner_steps=1)
    alpha, penalty = 0.2, 0.7
    factors = torch.full_like(params["inner_lr"], alpha)
    params = constant(params, 1.0, penalty) | {"inner_lr": factors, "inner_decay": factors}
    task = next(batch.unbind())
    leaves = {n: params[n].clone().requires_grad_() for n in network_names(params)}
    inside = {n.removeprefix("encoder."): v for n, v in leaves.items() if n.startswith("enc")}
    features = functional_call(learner.encoder.module, inside, (task.support_x,))
    output = F.linear(features, leaves["head.weight"], leaves["head.bias"])
    squares = sum(v.square().sum() for v in leaves.values())
    loss = F.cross_entropy(output, task.support_y) + penalty / 2 * squares
    found = torch.autograd.grad(loss, list(leaves.values()))
    expected = {
        n: (v - alpha * g).detach() for (n, v), g in zip(leaves.items(), found, strict=True)
    }
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    torch.testing.assert_close(fast, expected)


def test_rates_depend_on_the_task() -> None:
    learner, params, batch = scene()
    made = []
    for task in batch.unbind():
        weights = {name: params[name] for name in network_names(params)}
        grads = learner.support_grads(weights, task.support_x, task.support_y, through=False)
        made.append(torch.stack(learner.generate(params, weights, grads)))
    assert made[0].shape == (2, 3)
    assert not torch.allclose(made[0], made[1], rtol=1e-4)


def test_a_random_initialization_is_left_alone() -> None:
    learner, params, batch = scene(initialization="random")
    grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop")
    assert not set(network_names(params)) & grads.keys()
    assert {f"decay.{name}" for name in network_names(params)} <= grads.keys()
    learned, params, _ = scene()
    assert learned.learned(params) == params.keys()


def test_defaults_are_those_of_the_reference_code() -> None:
    hyper = ALFAHyper()
    assert (hyper.inner_steps, hyper.inner_lr, hyper.weight_decay) == (5, 0.01, 5e-4)
    learner = ALFA(small_encoder(CLASSIFICATION), hyper)
    params = learner.init(3, torch.Generator().manual_seed(0))
    assert params["generator.0.weight"].shape == params["generator.2.weight"].shape == (6, 6)
    assert torch.equal(params["inner_lr"], torch.full((5, 3), 0.01))
    assert torch.equal(params["inner_decay"], torch.full((5, 3), 0.01 * 5e-4))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"inner_lr": 0.0}, "inner_lr is 0.0"),
        ({"weight_decay": -1.0}, "weight_decay is -1.0"),
        ({"initialization": "zero"}, "initialization is 'zero'"),
        ({"groups": "scalar"}, "groups is 'scalar'"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALFAHyper(**wrong)
