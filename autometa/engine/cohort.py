"""Meta-training and -evaluation of a cohort: trials that differ in numbers only, as one program.

All members see the same tasks, as trials of the same seed do by themselves. What becomes of one is
nothing to the others: sums never go over members. Who diverges or fails leaves at once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from autometa.engine.evaluate import Evaluation, batches, evaluation
from autometa.engine.halving import Sparing
from autometa.engine.members import MemberParts, check_members, stacked
from autometa.engine.outer import OuterSteps
from autometa.engine.split import SplitGradient
from autometa.engine.strategies import VMAP, Results, task_scores
from autometa.engine.train import (
    TrainState,
    check_every,
    divergence,
    draw,
    rate,
)
from autometa.episodes.task import Task, TaskSource
from autometa.learners.base import Learner, Moment, Params

Ends = dict[int, Exception]


def train_cohort(
    learners: Sequence[Learner[Any]],
    states: Sequence[TrainState],
    *,
    source: TaskSource,
    iterations: int,
    until: int,
) -> Ends:
    """Train all members to a meta-iteration, changing their states in place.

    ``iterations`` is the budget as of :func:`~autometa.engine.train.meta_train`. The numbers are
    those that it gives each of them alone, but for rounding.

    Returns:
        Member → why it went no further: it has diverged (the iteration told is the right one), or
        its own computation raises an error. The states of these are of no use.

    Raises:
        ValueError: Learners differ in more than numbers, or states in their iteration.
    """
    check_members(learners)
    if len({state.iteration for state in states}) > 1:
        raise ValueError("members of a cohort have to be at the same meta-iteration")
    cohort = Cohort(learners, states, iterations)
    while cohort.members and cohort.iteration < until:
        cohort.step(source)
        if cohort.iteration == until or len(cohort.unchecked) == check_every(cohort.device):
            cohort.check()
    cohort.write_back(states)
    return cohort.ends


def evaluate_cohort(
    learners: Sequence[Learner[Any]],
    params: Params,
    *,
    source: TaskSource,
    tasks: int,
    generator: torch.Generator,
    batch: int,
) -> list[Evaluation]:
    """As :func:`~autometa.engine.evaluate.meta_evaluate`, of each member on the same tasks.

    Args:
        params: Stacked, [P, …].
    """
    check_members(learners)
    parts = MemberParts()
    found: list[Results] = []
    for drawn in batches(source, tasks, generator, batch):
        ways = drawn.ways

        def scores(
            learner: Learner[Any], params: Params, *tensors: Tensor, ways: int = ways
        ) -> Results:
            return task_scores(learner, params, batch=Task.of(tensors, ways), strategy=VMAP)

        found.append(parts(scores, learners, params, *drawn.tensors, key=("scores", ways)))
    return [
        evaluation([{name: value[member] for name, value in each.items()} for each in found])
        for member in range(len(learners))
    ]


class Cohort:
    """Members on their way from one scoring to the next.

    Attributes:
        members: Positions of those that still train, in the order of what is stacked.
        ends: Member → why it doesn't any more.
        unchecked: Losses and gradient norms [2, P] that nobody has looked at.
    """

    def __init__(
        self, learners: Sequence[Learner[Any]], states: Sequence[TrainState], iterations: int
    ) -> None:
        self.members = list(range(len(learners)))
        self.ends: Ends = {}
        self.unchecked: list[Tensor] = []
        self.iteration = states[0].iteration
        self._every, self._iterations = learners, iterations
        self._params = stacked(state.params for state in states)
        self._outer = OuterSteps(learners[0], self._params, states)
        self._generator = torch.Generator()
        self._generator.set_state(states[0].generator.get_state())
        self._sparing = Sparing(lambda: (MemberParts(), SplitGradient()))

    @property
    def device(self) -> torch.device:
        return next(iter(self._params.values())).device

    @property
    def learners(self) -> list[Learner[Any]]:
        every = [self._every[member] for member in self.members]
        if not self._sparing.recompute:
            return every
        return [learner.recomputing() or learner for learner in every]

    def step(self, source: TaskSource) -> None:
        """One meta-iteration of all."""
        one = {name: value[0] for name, value in self._params.items()}
        progress = self.iteration / self._iterations
        batch, moment = draw(self._every[0], one, source, self._generator, progress)
        try:
            grads, metrics = self._gradient(batch, moment)
        except RuntimeError:
            self.check()
            self._drop(self._failing(batch, moment))
            if not self.members:
                return
            grads, metrics = self._gradient(batch, moment)
        rates = [rate(each.hyper, self.iteration, self._iterations) for each in self.learners]
        norm = self._outer.step(self.learners, rates, self._params, grads)
        self._params |= torch.func.vmap(self._every[0].absorb)(self._params, metrics)
        self.iteration += 1
        self.unchecked.append(torch.stack((metrics["loss"], norm)))

    def check(self) -> None:
        """Let those go whose numbers aren't finite."""
        if not self.unchecked:
            return
        first = self.iteration - len(self.unchecked) + 1
        found: Ends = {}
        for iteration, numbers in enumerate(torch.stack(self.unchecked).tolist(), start=first):
            for position, (loss, norm) in enumerate(zip(*numbers, strict=True)):
                if end := divergence(iteration, loss, norm):
                    found.setdefault(position, end)
        self.unchecked.clear()
        self._drop(found)

    def write_back(self, states: Sequence[TrainState]) -> None:
        """The states of those that still train."""
        for position, member in enumerate(self.members):
            state = states[member]
            state.iteration = self.iteration
            state.generator.set_state(self._generator.get_state())
            for name, value in state.params.items():
                value.copy_(self._params[name][position])
            self._outer.write_back(state, position)

    def _gradient(self, batch: Task, moment: Moment) -> tuple[Params, Results]:
        """Of all; where a task of one member is too much, inner steps are computed again."""

        def attempt() -> tuple[Params, Results]:
            members, split = self._sparing.parts

            def one(
                learner: Learner[Any], params: Params, noise: Tensor, *tensors: Tensor
            ) -> tuple[Params, Results]:
                now, tasks = Moment(moment.progress, noise), Task.of(tensors, batch.ways)
                return split(learner, params, batch=tasks, strategy=VMAP, moment=now)

            learners = self.learners
            key = (learners[0].stage(moment.progress), split.most, batch.ways)
            found: tuple[Params, Results] = members(
                one, learners, self._params, moment.noise, *batch.tensors, key=key
            )
            return found

        return self._sparing.run(self._every[0].recomputing() is not None, attempt)

    def _failing(self, batch: Task, moment: Moment) -> Ends:
        """Those whose own computation raises an error: one matrix without an inverse is enough."""
        found: Ends = {}
        _, split = self._sparing.parts
        for position, learner in enumerate(self.learners):
            own = {name: value[position] for name, value in self._params.items()}
            try:
                split(learner, own, batch=batch, strategy=VMAP, moment=moment)
            except RuntimeError as error:
                found[position] = error
        return found

    def _drop(self, ends: Mapping[int, Exception]) -> None:
        """Members at these positions leave; what is stacked is packed anew."""
        if not ends:
            return
        left = [i for i in range(len(self.members)) if i not in ends]
        self.ends |= {self.members[position]: end for position, end in ends.items()}
        self.members = [self.members[i] for i in left]
        index = torch.tensor(left, dtype=torch.long, device=self.device)
        self._params = {name: value[index] for name, value in self._params.items()}
        self._outer.select(index)
