"""The contract of a meta-learner: a frozen record of pure functions over meta-parameters.

Meta-parameters are a plain dict of tensors (initialization, rate vector, metric, …). Modules are
stateless skeletons called through :func:`torch.func.functional_call`; nothing is kept on ``self``
between support and query, so a strategy can batch tasks (or trials) around any learner.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Generic, Protocol, Self, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from .domains import Choice, Float, hyper
from .gradients import Params as Params
from .gradients import gradient

Fast = Any

CLASSIFICATION = "classification"
REGRESSION = "regression"
EPISODES = "episodes"
CLASSES = "classes"


class Task(Protocol):
    """What a learner needs to see of an episode; shapes as in ``autometa.episodes.Task``."""

    @property
    def support_x(self) -> Tensor: ...
    @property
    def support_y(self) -> Tensor: ...
    @property
    def query_x(self) -> Tensor: ...
    @property
    def query_y(self) -> Tensor: ...
    @property
    def ways(self) -> int: ...


@dataclass(frozen=True)
class Moment:
    """Where meta-training stands when it looks at a task, and the task's share of chance.

    Attributes:
        progress: The part of the budget that is done, in [0, 1).
        noise: Standard normal numbers, [noise_size]; a learner has no other randomness.
    """

    progress: float
    noise: Tensor


START = Moment(0.0, torch.empty(0))
SCHEDULES = Choice(("constant", "cosine", "halving"))


@dataclass(frozen=True)
class Hyper:
    """What the outer loop asks of every learner; each learner's own record extends it.

    Raises:
        ValueError: A field of named options has another value.
    """

    meta_lr: float = hyper(1e-3, Float(1e-4, 1e-2, log=True), "rate of the outer optimizer")
    meta_batch: int = hyper(4, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("constant", SCHEDULES, "course of the outer rate over the budget")
    meta_optimizer: str = hyper(
        "adam",
        Choice(("adam",), ("adamw", "sgd", "momentum")),
        "outer optimizer; momentum is SGD with 0.9 of it",
    )
    meta_weight_decay: float = hyper(
        0.0, Float(0.0, 0.0), "the outer optimizer's decay of the backbone and the head"
    )
    augment: str = hyper(
        "none", Choice(("none", "affine")), "random affine maps of the meta-training images"
    )

    @property
    def way_factor(self) -> int:
        """Ways of a meta-training task as a multiple of the ways it is judged at.

        A learner for which this is a matter of choice declares a field of the same name.
        """
        return 1

    def at_least(self, low: int, *names: str) -> None:
        """Raise a ValueError for the first of these fields that is below ``low``."""
        for name, value in self._plain(names):
            if value < low:
                raise ValueError(f"{name} is {value}, but must be at least {low}")

    def above(self, low: int, *names: str) -> None:
        """Raise a ValueError for the first of these fields that isn't above ``low``."""
        for name, value in self._plain(names):
            if not value > low:
                raise ValueError(f"{name} is {value}, but must be above {low}")

    def _plain(self, names: Sequence[str]) -> Iterator[tuple[str, float]]:
        """Where trials are one program, numbers are tensors, and each trial's own was checked."""
        for name in names:
            value = getattr(self, name)
            if not isinstance(value, Tensor):
                yield name, value

    def __post_init__(self) -> None:
        for each in fields(self):
            domain, value = each.metadata["domain"], getattr(self, each.name)
            named = isinstance(domain, Choice) and isinstance(domain.options[0], str | bool)
            if named and value not in domain.possible:
                options = ", ".join(str(option) for option in domain.possible)
                raise ValueError(f"{each.name} is {value!r}, but must be one of {options}")
        self.at_least(0, "meta_weight_decay")


H = TypeVar("H", bound=Hyper)


@dataclass(frozen=True)
class Encoder:
    """A backbone as a learner sees it: a stateless skeleton, [B, …] → [B, features]."""

    module: nn.Module
    features: int

    def __call__(self, params: Params, x: Tensor) -> Tensor:
        return functional_call(self.module, params, (channels_last(x),))  # type: ignore[no-any-return]

    def init(self, generator: torch.Generator) -> Params:
        """Fresh parameters, by each layer's own ``reset_parameters``, from this generator."""
        return initial_parameters(self.module, generator)


def channels_last(x: Tensor) -> Tensor:
    """The same, but images on a CPU with their channels last in memory, unless transformed.

    A CPU's convolutions are faster so, and keep the layout of the first images to the end.
    """
    if x.dim() != 4 or x.device.type != "cpu" or torch._C._are_functorch_transforms_active():
        return x
    if x.shape[1] == 1 and x.is_contiguous():  # which is both, but torch would take it for first
        return x.reshape(-1, *x.shape[2:], 1).movedim(-1, 1)
    return x.contiguous(memory_format=torch.channels_last)


@dataclass(frozen=True)
class Learner(ABC, Generic[H]):
    """What is meta-learned. Fields are all of its state; every method is pure.

    Args:
        encoder: The backbone.
        hyper: The method's hyper-parameters.
        problem: ``"classification"`` (labels, cross-entropy) or ``"regression"`` (reals, MSE).
        train_classes: Classes of the meta-training split, for those that train on all at once.

    Class attributes:
        problems: What it can do.
        any_ways: Whether one set of meta-parameters serves tasks of any number of ways.
        trains_on: ``"episodes"``, or ``"classes"``: batches of all meta-training classes, as the
            queries of tasks without support sets whose labels are the classes' own.
    """

    encoder: Encoder
    hyper: H
    problem: str = CLASSIFICATION
    train_classes: int = 0

    paper: ClassVar[str]
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION})
    any_ways: ClassVar[bool] = False
    trains_on: ClassVar[str] = EPISODES
    hyper_type: ClassVar[type[Hyper]]

    def __post_init__(self) -> None:
        if self.problem not in self.problems:
            able = ", ".join(sorted(self.problems))
            raise ValueError(f"problem is {self.problem!r}, but {type(self).__name__} does {able}")

    @classmethod
    def fast_parameters(cls, encoder_parameters: Sequence[str]) -> list[str]:
        """Names of what a rate vector's columns are for: the encoder's parameters, and one's own.

        Known before anything is built, so that a search can name the columns.
        """
        return list(encoder_parameters)

    def at(self, moment: Moment) -> Self:
        """This learner as it adapts at a moment of meta-training, if otherwise than afterwards."""
        return self

    def stage(self, progress: float) -> Hashable:
        """What of :meth:`meta_grad` depends on the part of the budget that is done, and how it is.

        Where it is equal, so is the computation, apart from the tensors that it is given.
        """
        return self.at(Moment(progress, torch.empty(0))).hyper

    def recomputing(self) -> Self | None:
        """This learner with a meta-gradient of the same numbers that takes less memory, and longer.

        None where nothing is to be had by that, as without inner steps to differentiate through.
        """
        return None

    @abstractmethod
    def init(self, ways: int, generator: torch.Generator) -> Params:
        """Meta-parameters before meta-training; ``ways`` is the number of outputs."""

    @abstractmethod
    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Fast:
        """Whatever :meth:`predict` needs of a task's support set; differentiable in ``params``.

        Shapes: ``support_x`` [N·K, …]; ``support_y`` [N·K] of 0…N−1, or [K, D] reals.
        """

    @abstractmethod
    def predict(self, params: Params, fast: Fast, query_x: Tensor) -> Tensor:
        """Logits [Q, N] of the queries (regression: means [Q, D])."""

    def learned(self, params: Params) -> frozenset[str]:
        """Names of the meta-parameters that the outer loop updates; the rest stay as set."""
        return frozenset(params)

    def parted(self, params: Params) -> tuple[Params, Params]:
        """The meta-parameters that the outer loop updates, and the rest."""
        names = self.learned(params)
        learned = {name: value for name, value in params.items() if name in names}
        return learned, {name: value for name, value in params.items() if name not in names}

    def loss(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Mean cross-entropy of logits, or mean squared error."""
        if self.problem == REGRESSION:
            return F.mse_loss(prediction, y)
        return F.cross_entropy(prediction, y)

    def query_loss(self, params: Params, task: Task) -> tuple[Tensor, Tensor]:
        """Loss on the queries after adapting to the support set, and the predictions."""
        fast = self.adapt(params, task.support_x, task.support_y, task.ways)
        prediction = self.predict(params, fast, task.query_x)
        return self.loss(prediction, task.query_y), prediction

    def noise_size(self, params: Params, task: Task) -> int:
        """How many standard normal numbers :meth:`objective` wants of :class:`Moment` for a task.

        ``task`` may be a batch: look at trailing dimensions only.
        """
        return 0

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """What meta-training minimises on a task, and the query predictions that go with it.

        The default is the query loss of the learner as it is :meth:`at` the moment.
        """
        return self.at(moment).query_loss(params, task)

    def spread(self, params: Params, fast: Fast, query_x: Tensor) -> Tensor | None:
        """Standard deviations [Q, D] of a regression's predictions, where the method has them."""
        return None

    def absorb(self, params: Params, metrics: dict[str, Tensor]) -> Params:
        """New values of meta-parameters that follow another rule than the outer optimizer.

        Running statistics, for instance, of what :meth:`meta_grad` put among its metrics beside
        ``loss`` and ``score`` (here they are means over a meta-iteration's tasks).
        """
        return {}

    def meta_grad(
        self, params: Params, task: Task, moment: Moment = START
    ) -> tuple[Params, dict[str, Tensor]]:
        """Gradient of the meta-objective in the learned meta-parameters, and metrics of the task.

        The default differentiates :meth:`objective`.
        """
        point, rest = self.parted(params)

        def objective(learned: Params) -> tuple[Tensor, Tensor]:
            return self.objective(rest | learned, task, moment)

        grads, loss, prediction = gradient(objective, point)
        return grads, {"loss": loss, "score": self.score(prediction, task.query_y)}

    def score(self, prediction: Tensor, y: Tensor) -> Tensor:
        """Accuracy of the queries in [0, 1]; for regression their mean squared error."""
        if self.problem == REGRESSION:
            return F.mse_loss(prediction, y)
        return (prediction.argmax(-1) == y).to(prediction.dtype).mean()


def initial_parameters(module: nn.Module, generator: torch.Generator) -> Params:
    """Parameters of a skeleton (which may lie on the meta device), drawn from ``generator``.

    The global random state is left as it was. Layers initialise themselves on the CPU, so the same
    seed gives the same network on every device.

    Raises:
        ValueError: A parameter belongs to no ``reset_parameters``.
    """
    seed = int(torch.randint(2**62, (), generator=generator, device=generator.device))
    fresh = copy.deepcopy(module).to_empty(device="cpu")
    params = {name: p.detach().fill_(torch.nan) for name, p in fresh.named_parameters()}
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        for part in fresh.modules():
            reset = getattr(part, "reset_parameters", None)
            if callable(reset):
                reset()
    for name, value in params.items():
        if value.isnan().any():
            raise ValueError(f"parameter {name!r} is set by no reset_parameters(): give it one")
    return params


def members(y: Tensor, ways: int) -> Tensor:
    """Whether each example is of each class, bool [N, n]; ``y`` [n] of 0…N−1."""
    result: Tensor = y == torch.arange(ways, device=y.device)[:, None]
    return result


def class_means(x: Tensor, y: Tensor, ways: int) -> Tensor:
    """Mean of the rows of each class, [N, D]; every class needs an example.

    Shapes: ``x`` [n, D]; ``y`` [n] of 0…N−1.
    """
    member = members(y, ways).to(x.dtype)
    return member @ x / member.sum(1, keepdim=True)


def linear(params: Params, name: str, x: Tensor) -> Tensor:
    """The linear layer whose parameters are ``name.weight`` and ``name.bias``."""
    return F.linear(x, params[f"{name}.weight"], params[f"{name}.bias"])


def check_ways(ways: int, trained: int, what: str) -> None:
    """Raise a ValueError unless a task has the ways of what was trained.

    Args:
        what: ``"head was trained for"``: how the message goes on from "this", up to the number.
    """
    if ways != trained:
        raise ValueError(
            f"the task has {ways} ways, but this {what} {trained}: "
            f"give tasks of {trained} ways, or use a learner that serves any number"
        )


def prefixed(prefix: str, params: Params) -> Params:
    """``{"weight": w}`` → ``{"head.weight": w}``."""
    return {f"{prefix}.{name}": value for name, value in params.items()}


def under(prefix: str, params: Params) -> Params:
    """The inverse of :func:`prefixed`: the entries below ``prefix``, without it."""
    cut = len(prefix) + 1
    return {name[cut:]: value for name, value in params.items() if name.startswith(prefix + ".")}
