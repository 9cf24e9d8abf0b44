"""Strategies: the same numbers however the tasks are run."""

from __future__ import annotations

import pytest
import torch

from autometa.engine import ON_CPU, choose, meta_gradient, task_scores
from autometa.learners.base import CLASSIFICATION, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.testing.small import small_encoder, small_tasks


def scene() -> tuple[MAML, Params]:
    learner = MAML(small_encoder(CLASSIFICATION), MAMLHyper(inner_steps=1))
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {name: value.double() for name, value in params.items()}


@pytest.mark.parametrize("strategy", ON_CPU)
def test_task_scores_are_those_of_each_task_alone(strategy: str) -> None:
    learner, params = scene()
    batch = small_tasks(CLASSIFICATION, tasks=5)
    scores = task_scores(learner, params, batch=batch, strategy=strategy)
    assert scores["loss"].unique().numel() == 5
    for i, task in enumerate(batch.unbind()):
        loss, prediction = learner.query_loss(params, task)
        torch.testing.assert_close(scores["loss"][i], loss)
        assert scores["score"][i] == (prediction.argmax(1) == task.query_y).double().mean()


def test_meta_gradient_is_the_mean_over_tasks() -> None:
    learner, params = scene()
    batch = small_tasks(CLASSIFICATION, tasks=2)
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop")
    each = [learner.meta_grad(params, task) for task in batch.unbind()]
    for name, g in grads.items():
        torch.testing.assert_close(g, (each[0][0][name] + each[1][0][name]) / 2)
    torch.testing.assert_close(metrics["loss"], (each[0][1]["loss"] + each[1][1]["loss"]) / 2)


def test_threads_repeat_themselves_to_the_bit_and_put_the_thread_count_back() -> None:
    learner, params = scene()
    batch = small_tasks(CLASSIFICATION, tasks=5)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        runs = [
            meta_gradient(learner, params, batch=batch, strategy="threads")[0] for _ in range(3)
        ]
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
    for run in runs[1:]:
        assert all(torch.equal(run[name], g) for name, g in runs[0].items())


def test_an_error_in_a_thread_arrives() -> None:
    learner, params = scene()
    with pytest.raises(ValueError, match="ways"):
        task_scores(learner, params, batch=small_tasks(CLASSIFICATION, ways=4), strategy="threads")


def test_an_unknown_strategy_is_refused() -> None:
    learner, params = scene()
    with pytest.raises(ValueError, match="strategy is 'magic', but must be one of loop, threads"):
        meta_gradient(learner, params, batch=small_tasks(CLASSIFICATION), strategy="magic")


def test_the_device_decides() -> None:
    image = (1, 28, 28)
    assert choose("cuda", 8, image) == choose(torch.device("cuda", 1), 1, image) == "vmap"
    assert choose("cuda", 8, (3, 84, 84)) == "streams"
    assert choose("cpu", 1, image) == "loop"
    assert choose("cpu", 2, image) == "threads"
    assert choose("cpu", 1, (1,)) == "vmap"
