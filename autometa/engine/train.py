"""Meta-training: steps on the meta-parameters, one batch of tasks each, resumable to the bit.

D. Kingma, J. Ba: "Adam: A Method for Stochastic Optimization", ICLR 2015, is the outer optimizer of
both MAML and prototypical networks, and the default. Others are AdamW (I. Loshchilov, F. Hutter:
"Decoupled Weight Decay Regularization", ICLR 2019) and SGD, which Reptile's paper uses.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from autometa.engine.strategies import meta_gradient
from autometa.episodes.task import Task, TaskSource
from autometa.learners.base import Hyper, Learner, Moment, Params

# MAML's reference code clips each number of the outer gradient to ±10, on mini-ImageNet only. We
# bound the norm, for every learner: that keeps the direction and tames the same exploding tasks.
MAX_GRADIENT_NORM = 10.0
# Snell et al. 2017, section 3: the rate is "cut in half every 2000 episodes".
HALVING_ITERATIONS = 2000
MOMENTUM = 0.9
# Rates, variances and scales aren't drawn to 0.
DECAYED = ("encoder.", "head.")
# On an accelerator a look at a number waits for the device, so losses are looked at in bulk.
CHECK_EVERY_ITERATIONS = 50


class Diverged(Exception):  # noqa: N818 (an end of a trial, not an error)
    """Meta-training left the finite numbers: an end of its own, neither failed nor pruned."""

    def __init__(self, iteration: int, reason: str) -> None:
        super().__init__(f"diverged at iteration {iteration}: {reason}")
        self.iteration = iteration
        self.reason = reason


@dataclass(frozen=True)
class Progress:
    """One meta-iteration: its number from 1, and the mean metrics of its tasks, on the device."""

    iteration: int
    loss: Tensor
    score: Tensor


@dataclass
class TrainState:
    """All that meta-training goes on from. Training changes it, and ``params``, in place."""

    params: Params
    optimizer: torch.optim.Optimizer
    generator: torch.Generator
    iteration: int = 0

    @classmethod
    def start(cls, learner: Learner[Any], params: Params, generator: torch.Generator) -> TrainState:
        """Before the first meta-iteration; ``params`` are copied, ``generator`` draws the tasks."""
        params = {name: value.clone() for name, value in params.items()}
        return cls(params, outer_optimizer(learner, params), generator)

    @classmethod
    def restore(
        cls,
        learner: Learner[Any],
        saved: Mapping[str, Any],
        *,
        device: torch.device | str = "cpu",
    ) -> TrainState:
        """The state that :meth:`state_dict` gave, on a device."""
        params = {name: value.to(device, copy=True) for name, value in saved["params"].items()}
        optimizer = outer_optimizer(learner, params)
        optimizer.load_state_dict(copy.deepcopy(saved["optimizer"]))  # it keeps what it is given
        generator = torch.Generator()
        generator.set_state(saved["generator"].cpu())
        return cls(params, optimizer, generator, saved["iteration"])

    def state_dict(self) -> dict[str, Any]:
        """A copy of everything, as tensors and plain types."""
        return {
            "iteration": self.iteration,
            "params": {name: value.clone() for name, value in self.params.items()},
            "optimizer": copy.deepcopy(self.optimizer.state_dict()),
            "generator": self.generator.get_state(),
        }


class MetaGradient(Protocol):
    """Gradient in the learned meta-parameters, and metrics, as means over a task batch."""

    def __call__(
        self,
        learner: Learner[Any],
        params: Params,
        *,
        batch: Task,
        strategy: str,
        moment: Moment,
    ) -> tuple[Params, dict[str, Tensor]]: ...


def meta_train(
    learner: Learner[Any],
    state: TrainState,
    *,
    source: TaskSource,
    iterations: int,
    strategy: str,
    gradient: MetaGradient = meta_gradient,
) -> Iterator[Progress]:
    """Train from ``state`` to ``iterations`` in all, yielding after each meta-iteration.

    ``iterations`` is the budget that the outer rate's schedule runs over, so it must be the same
    when training is resumed; to stop earlier, stop iterating.
    ``gradient`` is what each step goes by.

    Raises:
        Diverged: The loss or its gradient isn't finite. On an accelerator this is noticed only
            every :data:`CHECK_EVERY_ITERATIONS`; the iteration told is the right one.
    """
    unchecked: list[tuple[Progress, Tensor]] = []
    while state.iteration < iterations:
        progress, norm = _step(learner, state, source, iterations, strategy, gradient)
        unchecked.append((progress, norm))
        if len(unchecked) == check_every(norm.device) or state.iteration == iterations:
            _check(unchecked)
            unchecked.clear()
        yield progress


def rate(hyper: Hyper, iteration: int, iterations: int) -> float:
    """The outer rate of the iteration (from 0), by the schedule over the whole budget.

    ``cosine`` falls from ``meta_lr`` to 0 along half a period (Loshchilov & Hutter, "SGDR", ICLR
    2017, equation 5, without restarts); ``halving`` halves every :data:`HALVING_ITERATIONS`.
    """
    if hyper.meta_schedule == "cosine":
        return hyper.meta_lr * (1 + math.cos(math.pi * iteration / iterations)) / 2
    if hyper.meta_schedule == "halving":
        return hyper.meta_lr * math.pow(0.5, iteration // HALVING_ITERATIONS)
    return hyper.meta_lr


def outer_optimizer(learner: Learner[Any], params: Params) -> torch.optim.Optimizer:
    """The outer optimizer; adam, sgd and momentum add the decay to the gradient (an l2 penalty)."""
    decay, names = learner.hyper.meta_weight_decay, sorted(learner.learned(params))
    decayed = [name for name in names if decay and name.startswith(DECAYED)]
    # As groups, since a baseline may learn nothing and no optimizer takes an empty list of tensors.
    groups: list[dict[str, Any]] = [{"params": [params[n] for n in names if n not in decayed]}]
    if decayed:
        groups.append({"params": [params[n] for n in decayed], "weight_decay": decay})
    match learner.hyper.meta_optimizer:
        case "adamw":
            return torch.optim.AdamW(groups, weight_decay=0.0)
        case "sgd":
            return torch.optim.SGD(groups)
        case "momentum":
            return torch.optim.SGD(groups, momentum=MOMENTUM)
        case _:
            return torch.optim.Adam(groups)


def draw(
    learner: Learner[Any],
    params: Params,
    source: TaskSource,
    generator: torch.Generator,
    progress: float,
) -> tuple[Task, Moment]:
    """The tasks of a meta-iteration, and its moment with each task's row of noise."""
    tasks = learner.hyper.meta_batch
    batch = source.sample(tasks, generator)
    noise = torch.randn(tasks, learner.noise_size(params, batch), generator=generator)
    return batch, Moment(progress, noise.to(batch.query_x))


def _step(
    learner: Learner[Any],
    state: TrainState,
    source: TaskSource,
    iterations: int,
    strategy: str,
    gradient: MetaGradient,
) -> tuple[Progress, Tensor]:
    progress = state.iteration / iterations
    batch, moment = draw(learner, state.params, source, state.generator, progress)
    grads, metrics = gradient(learner, state.params, batch=batch, strategy=strategy, moment=moment)
    for name, g in grads.items():
        state.params[name].grad = g
    norm = get_total_norm(grads.values())
    clip_grads_with_norm_([state.params[name] for name in grads], MAX_GRADIENT_NORM, norm)
    for group in state.optimizer.param_groups:
        group["lr"] = rate(learner.hyper, state.iteration, iterations)
        if group["weight_decay"]:
            group["weight_decay"] = learner.hyper.meta_weight_decay
    state.optimizer.step()
    for name, value in learner.absorb(state.params, metrics).items():
        state.params[name].copy_(value)
    state.iteration += 1
    return Progress(state.iteration, metrics["loss"], metrics["score"]), norm


def _check(unchecked: Sequence[tuple[Progress, Tensor]]) -> None:
    values = torch.stack([torch.stack((step.loss, norm)) for step, norm in unchecked]).tolist()
    for (step, _), (loss, norm) in zip(unchecked, values, strict=True):
        if end := divergence(step.iteration, loss, norm):
            raise end


def check_every(device: torch.device) -> int:
    """Meta-iterations between looks at their numbers."""
    return 1 if device.type == "cpu" else CHECK_EVERY_ITERATIONS


def divergence(iteration: int, loss: float, norm: float) -> Diverged | None:
    """What a loss or a gradient's norm that isn't finite means."""
    if not math.isfinite(loss):
        return Diverged(iteration, f"the loss is {loss}")
    if not math.isfinite(norm):
        return Diverged(iteration, f"the norm of the gradient is {norm}")
    return None
