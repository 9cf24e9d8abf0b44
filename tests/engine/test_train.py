"""Meta-training: what a step does, resuming to the bit, schedules, divergence."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autometa.engine import Diverged, TrainState, meta_gradient, meta_train
from autometa.engine.checkpoint import load, save
from autometa.engine.train import MAX_GRADIENT_NORM, rate
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Hyper, Learner
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.learners.reptile import Reptile, ReptileHyper
from autometa.learners.scratch import Scratch, ScratchHyper
from autometa.testing.learners import assert_same
from autometa.testing.small import EasyFamily, small_encoder

FAMILY = EasyFamily(CLASSIFICATION)
LEARNED_RATES = RateVector("learned", "layer", ((0.1,),))


def maml(**hyper: Any) -> MAML:
    hyper = {"inner_steps": 1, "meta_batch": 2, "inner_lr": LEARNED_RATES, **hyper}
    return MAML(small_encoder(CLASSIFICATION), MAMLHyper(**hyper))


OPTIMIZERS = ("adam", "adamw", "sgd", "momentum")
LEARNERS: list[Learner[Any]] = [
    ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(meta_schedule="cosine")),
    maml(),
]
DECAYED = [maml(meta_optimizer=each, meta_weight_decay=0.01) for each in OPTIMIZERS]


def start(learner: Learner[Any]) -> TrainState:
    params = learner.init(3, torch.Generator().manual_seed(0))
    return TrainState.start(learner, params, torch.Generator().manual_seed(1))


def advance(
    learner: Learner[Any], state: TrainState, to: int, source: Any = FAMILY, total: int = 10
) -> list[float]:
    losses = []
    for progress in meta_train(learner, state, source=source, iterations=total, strategy="loop"):
        losses.append(progress.loss.item())
        if progress.iteration == to:
            break
    return losses


def named(learner: Learner[Any]) -> str:
    return f"{type(learner).__name__}-{learner.hyper.meta_optimizer}"


@pytest.mark.parametrize("learner", [*LEARNERS, *DECAYED], ids=named)
def test_a_resumed_training_is_the_same_to_the_bit(learner: Learner[Any], tmp_path: Path) -> None:
    whole, half = start(learner), start(learner)
    losses = advance(learner, whole, 10)
    first = advance(learner, half, 5)
    save(tmp_path / "checkpoint.pt", half.state_dict())
    advance(learner, half, 10)
    resumed = TrainState.restore(learner, load(tmp_path / "checkpoint.pt"))
    assert resumed.iteration == 5
    assert first + advance(learner, resumed, 10) == losses
    assert_same(whole.params, resumed.params)
    assert_same(whole.params, half.params)


def test_a_state_dict_is_a_copy() -> None:
    learner = LEARNERS[0]
    state = start(learner)
    advance(learner, state, 2)
    saved = state.state_dict()
    expected = {name: value.clone() for name, value in saved["params"].items()}
    moment = saved["optimizer"]["state"][0]["exp_avg"].clone()
    advance(learner, state, 4)
    advance(learner, TrainState.restore(learner, saved), 4)
    assert_same(expected, saved["params"])
    assert torch.equal(moment, saved["optimizer"]["state"][0]["exp_avg"])


def test_starting_leaves_the_initialization_alone() -> None:
    learner = LEARNERS[0]
    params = learner.init(3, torch.Generator().manual_seed(0))
    before = {name: value.clone() for name, value in params.items()}
    advance(learner, TrainState.start(learner, params, torch.Generator()), 2)
    assert_same(before, params)


def test_the_first_step_is_adams() -> None:
    """Adam's first step is the rate times g / (|g| + ε), here with the gradient clipped."""
    learner, state = LEARNERS[1], start(LEARNERS[1])
    before = {name: value.clone() for name, value in state.params.items()}
    batch = FAMILY.sample(2, torch.Generator().manual_seed(1))
    grads, _ = meta_gradient(learner, before, batch=batch, strategy="loop")
    norm = torch.cat([g.flatten() for g in grads.values()]).norm()
    assert norm < MAX_GRADIENT_NORM
    advance(learner, state, 1)
    for name, g in grads.items():
        expected = before[name] - learner.hyper.meta_lr * g / (g.abs() + 1e-8)
        torch.testing.assert_close(state.params[name], expected)


def stepped(
    optimizer: str, w: Tensor, g: Tensor, past: dict[str, Tensor], lr: float, decay: float, t: int
) -> Tensor:
    """A step as the papers of the optimizers have it; ``past`` are moments, and change."""
    if optimizer == "adamw":
        w = w - lr * decay * w
    else:
        g = g + decay * w
    if optimizer == "sgd":
        return w - lr * g
    if optimizer == "momentum":
        past["m"] = 0.9 * past.get("m", torch.zeros_like(g)) + g
        return w - lr * past["m"]
    past["m"] = 0.9 * past.get("m", torch.zeros_like(g)) + 0.1 * g
    past["v"] = 0.999 * past.get("v", torch.zeros_like(g)) + 0.001 * g.square()
    return w - lr * (past["m"] / (1 - 0.9**t)) / ((past["v"] / (1 - 0.999**t)).sqrt() + 1e-8)


@pytest.mark.parametrize("decay", [0.0, 0.1])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_steps_are_those_of_the_optimizer_by_hand(optimizer: str, decay: float) -> None:
    """The decay is of the network's weights, not of its rates; the rate has its schedule."""
    hyper = MAMLHyper(
        inner_steps=1,
        meta_batch=2,
        inner_lr=LEARNED_RATES,
        meta_optimizer=optimizer,
        meta_weight_decay=decay,
        meta_lr=0.01,
        meta_schedule="cosine",
    )
    # Lines, since a bias before a batch norm has a gradient of rounding errors alone.
    learner, family = MAML(small_encoder(REGRESSION), hyper, REGRESSION), EasyFamily(REGRESSION)
    params = learner.init(1, torch.Generator().manual_seed(0))
    state = TrainState.start(learner, params, torch.Generator().manual_seed(1))
    draws = torch.Generator().manual_seed(1)
    past: dict[str, dict[str, Tensor]] = {name: {} for name in params}
    for t in (1, 2, 3):
        lr = 0.01 * (1 + math.cos(math.pi * (t - 1) / 10)) / 2
        batch = family.sample(2, draws)
        grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop")
        assert grads.keys() == params.keys()
        assert torch.cat([g.flatten() for g in grads.values()]).norm() < MAX_GRADIENT_NORM
        for name, g in grads.items():
            own = 0.0 if name == "inner_lr" else decay
            params[name] = stepped(optimizer, params[name], g, past[name], lr, own, t)
    advance(learner, state, 3, family)
    torch.testing.assert_close(state.params, params, rtol=1e-4, atol=1e-6)


def test_without_decay_adamw_is_adam_and_with_it_is_not() -> None:
    ends = {}
    for decay in (0.0, 0.1):
        for optimizer in ("adam", "adamw"):
            learner = maml(meta_optimizer=optimizer, meta_weight_decay=decay, meta_lr=0.01)
            state = start(learner)
            advance(learner, state, 3)
            ends[optimizer, decay] = state.params
    assert_same(ends["adam", 0.0], ends["adamw", 0.0])
    assert not torch.allclose(*(ends[each, 0.1]["head.weight"] for each in ("adam", "adamw")))


def test_by_sgd_reptile_moves_a_share_of_the_way_as_in_its_paper() -> None:
    """Algorithm 1: φ ← φ + ε (W − φ), with the weights W after training on the task."""
    hyper = ReptileHyper(
        meta_optimizer="sgd",
        meta_lr=0.1,
        meta_batch=1,
        meta_schedule="constant",
        inner_optimizer="sgd",
        inner_lr=0.05,
        inner_steps=3,
        inner_batch=100,
    )
    learner = Reptile(small_encoder(CLASSIFICATION), hyper)
    state = start(learner)
    before = {name: value.clone() for name, value in state.params.items()}
    task = next(FAMILY.sample(1, torch.Generator().manual_seed(1)).unbind())
    x = torch.cat([task.support_x, task.query_x])
    y = torch.cat([task.support_y, task.query_y])
    weights = {name: value.clone().requires_grad_() for name, value in before.items()}
    sgd = torch.optim.SGD(weights.values(), lr=0.05)
    for _ in range(3):
        sgd.zero_grad()
        F.cross_entropy(learner.network(weights, x), y).backward()
        sgd.step()
    advance(learner, state, 1)
    for name, phi in before.items():
        expected = phi + 0.1 * (weights[name].detach() - phi)
        torch.testing.assert_close(state.params[name], expected)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_a_baseline_that_learns_nothing_has_an_optimizer_too(optimizer: str) -> None:
    hyper = ScratchHyper(meta_optimizer=optimizer, meta_weight_decay=0.1)
    learner = Scratch(small_encoder(CLASSIFICATION), hyper)
    state = start(learner)
    restored = TrainState.restore(learner, state.state_dict())
    assert_same(state.params, restored.params)


def test_a_negative_decay_is_refused() -> None:
    with pytest.raises(ValueError, match=r"meta_weight_decay is -0.1, but must be at least 0"):
        Hyper(meta_weight_decay=-0.1)


@dataclass(frozen=True)
class Scaled:
    """The easy family with images of another brightness."""

    factor: float

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        task = FAMILY.sample(tasks, generator)
        return replace(task, query_x=task.query_x * self.factor)


def test_a_large_gradient_is_clipped_to_the_norm() -> None:
    learner = replace(LEARNERS[0], hyper=ProtoNetHyper(scale=1000.0))
    state = start(learner)
    advance(learner, state, 1)
    grads = [p.grad for p in state.optimizer.param_groups[0]["params"]]
    norm = torch.cat([g.flatten() for g in grads]).norm().item()
    assert norm == pytest.approx(MAX_GRADIENT_NORM, rel=1e-3)


def test_divergence_ends_training_with_the_iteration() -> None:
    learner, state = LEARNERS[0], start(LEARNERS[0])
    advance(learner, state, 3)
    with pytest.raises(Diverged, match="diverged at iteration 4: the loss is nan") as ended:
        advance(learner, state, 10, Scaled(float("nan")))
    assert ended.value.iteration == 4


def test_an_infinite_gradient_of_a_finite_loss_is_divergence() -> None:
    class Broken(ProtoNet):
        def meta_grad(self, params: Any, task: Any, moment: Any) -> Any:
            grads, metrics = super().meta_grad(params, task, moment)
            return {name: g / 0 for name, g in grads.items()}, metrics

    learner = Broken(small_encoder(CLASSIFICATION), ProtoNetHyper())
    with pytest.raises(Diverged, match="the norm of the gradient is"):
        advance(learner, start(learner), 1)


def test_finished_training_does_nothing() -> None:
    learner, state = LEARNERS[0], start(LEARNERS[0])
    advance(learner, state, 3, total=3)
    assert advance(learner, state, 3, total=3) == []


def test_schedules() -> None:
    cosine = Hyper(meta_lr=0.1, meta_schedule="cosine")
    rates = [rate(cosine, i, 100) for i in (0, 50, 100)]
    assert rates == pytest.approx([0.1, 0.05, 0.0])
    halving = Hyper(meta_lr=0.1, meta_schedule="halving")
    rates = [rate(halving, i, 100) for i in (0, 1999, 2000, 4000)]
    assert rates == pytest.approx([0.1, 0.1, 0.05, 0.025])
    assert rate(Hyper(meta_lr=0.1), 99, 100) == 0.1
