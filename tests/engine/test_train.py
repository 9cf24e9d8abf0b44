"""Meta-training: what a step does, resuming to the bit, schedules, divergence."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from autometa.engine import Diverged, TrainState, meta_gradient, meta_train
from autometa.engine.checkpoint import load, save
from autometa.engine.train import MAX_GRADIENT_NORM, rate
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Hyper, Learner
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import assert_same
from autometa.testing.small import EasyFamily, small_encoder

FAMILY = EasyFamily(CLASSIFICATION)
LEARNERS: list[Learner[Any]] = [
    ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(meta_schedule="cosine")),
    MAML(
        small_encoder(CLASSIFICATION),
        MAMLHyper(inner_steps=1, meta_batch=2, inner_lr=RateVector("learned", "layer", ((0.1,),))),
    ),
]


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


@pytest.mark.parametrize("learner", LEARNERS, ids=lambda learner: type(learner).__name__)
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
