"""Meta-evaluation: scores of tasks and their interval."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autometa.engine import STRATEGIES, Evaluation, meta_evaluate
from autometa.engine.evaluate import calibration_error
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Learner, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.testing.small import EasyFamily, small_encoder, small_tasks


class Drawn:
    """Hands out the tasks of one batch, in order."""

    def __init__(self, batch: Task) -> None:
        self._tasks = batch.unbind()

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        drawn = [next(self._tasks) for _ in range(tasks)]
        names = ("support_x", "support_y", "query_x", "query_y")
        stacked = {name: torch.stack([getattr(task, name) for task in drawn]) for name in names}
        return Task(**stacked, ways=drawn[0].ways)


def scene(problem: str) -> tuple[Learner[MAMLHyper], Params]:
    learner = MAML(small_encoder(problem), MAMLHyper(inner_steps=1), problem)
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {name: value.double() for name, value in params.items()}


def test_mean_and_interval_are_over_tasks() -> None:
    scores = torch.rand(50, generator=torch.Generator().manual_seed(0)).double()
    evaluation = Evaluation(scores, 0.0)
    assert evaluation.mean == pytest.approx(np.mean(scores.numpy()))
    assert evaluation.ci95 == pytest.approx(1.96 * np.std(scores.numpy(), ddof=1) / math.sqrt(50))
    assert Evaluation(scores[:1], 0.0).ci95 == math.inf


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("batch", [1, 2, 5])
def test_every_task_is_scored_once_whatever_the_batch(strategy: str, batch: int) -> None:
    learner, params = scene(CLASSIFICATION)
    tasks = small_tasks(CLASSIFICATION, tasks=5)
    evaluation = meta_evaluate(
        learner,
        params,
        source=Drawn(tasks),
        tasks=5,
        generator=torch.Generator(),
        batch=batch,
        strategy=strategy,
    )
    losses, scores = [], []
    for task in tasks.unbind():
        loss, prediction = learner.query_loss(params, task)
        losses.append(loss.item())
        scores.append((prediction.argmax(1) == task.query_y).double().mean().item())
    assert evaluation.scores.tolist() == pytest.approx(scores)
    assert evaluation.loss == pytest.approx(np.mean(losses))


def test_a_regression_is_scored_by_its_squared_error() -> None:
    learner, params = scene(REGRESSION)
    evaluation = meta_evaluate(
        learner,
        params,
        source=Drawn(small_tasks(REGRESSION)),
        tasks=3,
        generator=torch.Generator(),
        batch=3,
        strategy="loop",
    )
    assert evaluation.mean == pytest.approx(evaluation.loss)


def test_the_generator_decides_the_tasks() -> None:
    learner = ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper())
    params = learner.init(3, torch.Generator().manual_seed(0))
    first, again, other = (
        meta_evaluate(
            learner,
            params,
            source=EasyFamily(CLASSIFICATION),
            tasks=10,
            generator=torch.Generator().manual_seed(seed),
            batch=5,
            strategy="loop",
        )
        for seed in (1, 1, 2)
    )
    assert torch.equal(first.scores, again.scores)
    assert first.loss != other.loss


@pytest.mark.parametrize(("tasks", "batch"), [(0, 1), (1, 0)])
def test_no_tasks_are_refused(tasks: int, batch: int) -> None:
    learner, params = scene(CLASSIFICATION)
    with pytest.raises(ValueError, match="both must be at least 1"):
        meta_evaluate(
            learner,
            params,
            source=EasyFamily(CLASSIFICATION),
            tasks=tasks,
            generator=torch.Generator(),
            batch=batch,
            strategy="loop",
        )


def test_calibration_error_is_the_weighted_gap_of_the_bins() -> None:
    confidence = torch.tensor([0.95, 0.97, 0.95, 0.97, 0.55, 0.55, 0.10, 0.0])
    correct = torch.tensor([1.0, 1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0])
    expected = (4 * abs(0.96 - 0.75) + 2 * abs(0.55 - 0.5) + 0.10) / 8
    assert calibration_error(confidence, correct) == pytest.approx(expected, abs=1e-6)
    assert calibration_error(torch.ones(3), torch.ones(3)) == 0
