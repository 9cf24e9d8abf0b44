"""A meta-gradient in parts of a task batch, where the whole takes more memory than there is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from autometa.engine.halving import Halving, Sparing
from autometa.engine.recording import Recorder
from autometa.engine.strategies import RECORDABLE, meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import Learner, Moment, Params


class SplitGradient(Halving):
    """:func:`~autometa.engine.strategies.meta_gradient` of parts, whose mean is that of the whole.

    It begins with whole batches. When memory runs out the parts are halved, for this batch and all
    that follow; when one task alone is too much, that is the error of it. The same numbers come
    out, but for rounding. On a GPU it is recorded once and replayed.
    """

    def __init__(self) -> None:
        super().__init__()
        self._recorder = Recorder()

    def __call__(
        self,
        learner: Learner[Any],
        params: Params,
        *,
        batch: Task,
        strategy: str,
        moment: Moment,
    ) -> tuple[Params, dict[str, Tensor]]:
        """Gradient in the learned meta-parameters, and metrics, as means over the task batch.

        Raises:
            torch.OutOfMemoryError: A single task takes too much memory.
        """

        def attempt(size: int) -> tuple[Params, dict[str, Tensor]]:
            return self._in_parts(learner, params, batch, strategy, moment, size)

        return self.run(len(batch.query_y), attempt)

    def _in_parts(
        self,
        learner: Learner[Any],
        params: Params,
        batch: Task,
        strategy: str,
        moment: Moment,
        size: int,
    ) -> tuple[Params, dict[str, Tensor]]:
        tasks = len(batch.query_y)
        if size == tasks:
            return self._recorded(learner, params, batch, strategy, moment)
        grads: Params = {}
        metrics: dict[str, Tensor] = {}
        for part, noise in _parts(batch, moment.noise, size):
            share = len(part.query_y) / tasks
            now = Moment(moment.progress, noise)
            found = self._recorded(learner, params, part, strategy, now)
            for total, each in zip((grads, metrics), found, strict=True):
                for name, value in each.items():
                    total[name] = total[name] + share * value if name in total else share * value
        return grads, metrics

    def _recorded(
        self, learner: Learner[Any], params: Params, batch: Task, strategy: str, moment: Moment
    ) -> tuple[Params, dict[str, Tensor]]:
        def function(params: Params, noise: Tensor, *tensors: Tensor) -> Any:
            now, tasks = Moment(moment.progress, noise), Task.of(tensors, batch.ways)
            return meta_gradient(learner, params, batch=tasks, strategy=strategy, moment=now)

        stage = learner.stage(moment.progress)
        key = (learner, stage, strategy, batch.ways) if strategy in RECORDABLE else None
        found: tuple[Params, dict[str, Tensor]] = self._recorder(
            key, function, params, moment.noise, *batch.tensors
        )
        return found


class SparingGradient(Sparing[SplitGradient]):
    """:class:`SplitGradient` by a learner that computes more and keeps less, once that is needed.

    A learner that can do so is asked to when a task alone is too much, for this batch and all that
    follow; batches begin as wholes again.
    """

    def __init__(self) -> None:
        super().__init__(SplitGradient)

    def __call__(
        self,
        learner: Learner[Any],
        params: Params,
        *,
        batch: Task,
        strategy: str,
        moment: Moment,
    ) -> tuple[Params, dict[str, Tensor]]:
        """As that of :class:`SplitGradient`.

        Raises:
            torch.OutOfMemoryError: A single task takes too much memory even so.
        """
        sparing = learner.recomputing()

        def attempt() -> tuple[Params, dict[str, Tensor]]:
            own = sparing if self.recompute and sparing else learner
            return self.parts(own, params, batch=batch, strategy=strategy, moment=moment)

        return self.run(sparing is not None, attempt)


def _parts(batch: Task, noise: Tensor, size: int) -> Iterator[tuple[Task, Tensor]]:
    """The batch in parts of at most ``size`` tasks, each with its rows of noise."""
    cut = (torch.split(tensor, size) for tensor in (*batch.tensors, noise))
    for support_x, support_y, query_x, query_y, rows in zip(*cut, strict=True):
        yield Task(support_x, support_y, query_x, query_y, batch.ways), rows
