"""Reptile: move the initialization towards the weights that training on a task ends at.

A. Nichol, J. Achiam, J. Schulman: "On First-Order Meta-Learning Algorithms", 2018,
https://arxiv.org/abs/1803.02999

From the initialization φ, k steps of SGD or Adam on mini-batches of a task lead to W; φ then moves
by ε (W − φ), for one task at a time (algorithm 1: ``meta_batch`` 1) or on average over several
(equation 5). No gradient goes through the inner loop, and a task isn't split in support set and
queries. For k = 1 this is joint training on all tasks; for k > 1 the direction also holds the term
that brings gradients of different mini-batches into agreement (section 5.1, equations 29 to 32).
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from .base import REGRESSION, SCHEDULES, START, Hyper, Moment, Params, Task
from .domains import Choice, Float, Int, hyper
from .gradients import gradient
from .inner_loop import GradientLearner

# D. Kingma, J. Ba, "Adam", ICLR 2015; Reptile sets β₁ = 0 (section 6.1): no momentum.
BETA2, EPSILON = 0.999, 1e-8


@dataclass(frozen=True)
class ReptileHyper(Hyper):
    """Training on a task; the defaults are the paper's for 5-way Omniglot (table 3).

    There ε falls linearly to 0 over the budget, to which our ``cosine`` is nearest.
    """

    meta_batch: int = hyper(5, Choice((1, 2, 5, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("cosine", SCHEDULES, "course of the outer rate over the budget")
    inner_optimizer: str = hyper(
        "adam", Choice(("adam", "sgd")), "optimizer on a task: Adam without momentum, or SGD"
    )
    inner_lr: float = hyper(1e-3, Float(1e-4, 0.1, log=True), "rate of the inner optimizer")
    inner_steps: int = hyper(5, Int(2, 20), "mini-batches per task in meta-training")
    inner_batch: int = hyper(10, Int(5, 25, step=5), "examples per mini-batch in meta-training")
    evaluation_steps: int = hyper(50, Int(5, 50, step=5), "steps on the support set of a new task")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "inner_steps", "inner_batch", "evaluation_steps")
        self.above(0, "inner_lr")


@dataclass(frozen=True)
class Reptile(GradientLearner[ReptileHyper]):
    """Meta-parameters: ``encoder.*``; ``head.*``, [ways, features] and [ways].

    What the outer optimizer gets for a gradient is φ − W, as section 3 proposes for Adam, which
    takes no notice of the factor 1/α that the analysis has. The paper's own experiments step by
    ε (W − φ) instead, that is, they use plain SGD.

    The paper trains with more shots than it tests with, so support set and queries of an episode
    together are the task's training data.
    """

    paper: ClassVar[str] = "Nichol, Achiam, Schulman 2018, arXiv:1803.02999"
    hyper_type: ClassVar[type[Hyper]] = ReptileHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        return self.network_parameters(ways, generator)

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The fast weights after ``evaluation_steps``.

        Each step takes the whole support set, so that the outcome isn't left to chance; the paper
        draws mini-batches here too, of 5 to 15 examples: in 5-way 1-shot the whole set as well.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        batches = [(support_x, support_y)] * self.hyper.evaluation_steps
        return self._train(params, batches)[0]

    def noise_size(self, params: Params, task: Task) -> int:
        """A number for each example in each epoch that is begun."""
        examples = self._examples(task.support_y) + self._examples(task.query_y)
        wanted = self.hyper.inner_steps * min(self.hyper.inner_batch, examples)
        return examples * math.ceil(wanted / examples)

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        """φ − W, and loss and score of the mini-batches, each before it is trained on."""
        x = torch.cat([task.support_x, task.query_x])
        y = torch.cat([task.support_y, task.query_y])
        # Epoch after epoch in random order, cut into mini-batches that may lie across two epochs.
        order = moment.noise.reshape(-1, len(y)).argsort(dim=-1, stable=True).flatten()
        size = min(self.hyper.inner_batch, len(y))
        rows = order[: self.hyper.inner_steps * size].reshape(-1, size)
        weights, metrics = self._train(params, [(x[row], y[row]) for row in rows])
        return {name: params[name] - weights[name] for name in params}, metrics

    def _train(
        self, weights: Params, batches: Iterable[tuple[Tensor, Tensor]]
    ) -> tuple[Params, dict[str, Tensor]]:
        """W after a step on each batch, and the mean metrics of the batches before their steps.

        Every task starts the second moments anew; the paper carries those that the last task ended
        with over to the next one (section 6.1).
        """
        squares = {name: torch.zeros_like(value) for name, value in weights.items()}
        losses, scores = [], []
        for step, (x, y) in enumerate(batches, start=1):

            def objective(weights: Params, x: Tensor = x, y: Tensor = y) -> tuple[Tensor, Tensor]:
                prediction = self.network(weights, x)
                return self.loss(prediction, y), prediction

            grads, loss, prediction = gradient(objective, weights)
            weights, squares = self._step(weights, grads, squares, step)
            losses.append(loss)
            scores.append(self.score(prediction, y))
        return weights, {"loss": torch.stack(losses).mean(), "score": torch.stack(scores).mean()}

    def _step(
        self, weights: Params, grads: Params, squares: Params, step: int
    ) -> tuple[Params, Params]:
        """SGD, or algorithm 1 of Adam with β₁ = 0, where ``squares`` are its second moments."""
        rate = self.hyper.inner_lr
        if self.hyper.inner_optimizer == "sgd":
            return {name: weights[name] - rate * g for name, g in grads.items()}, squares
        squares = {n: BETA2 * squares[n] + (1 - BETA2) * g.square() for n, g in grads.items()}
        unbias = 1 / (1 - BETA2**step)
        scales = {name: (unbias * square).sqrt() + EPSILON for name, square in squares.items()}
        return {n: weights[n] - rate * g / scales[n] for n, g in grads.items()}, squares

    def _examples(self, y: Tensor) -> int:
        """Rows of labels [n] or targets [n, D], which may be batches of them."""
        return y.shape[-2 if self.problem == REGRESSION else -1]
