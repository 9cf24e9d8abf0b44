"""What the learners share that read a support set as a sequence of labelled examples."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

from .base import Hyper, Learner, Moment, Params, Task, check_ways, members, under
from .domains import Int, hyper


@dataclass(frozen=True)
class SequenceHyper(Hyper):
    """Also how much is made of a task: how to bind and recall is learned sooner from more of them.

    The published methods draw a sequence from a task. More of them cost little beside the encoder,
    which sees every image once.
    """

    sequences: int = hyper(1, Int(1, 32, log=True), "sequences dealt from each meta-training task")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "sequences")


S = TypeVar("S", bound=SequenceHyper)


@dataclass(frozen=True)
class SequenceLearner(Learner[S], ABC):
    """Labels go in one-hot and come out of the layer ``out``, so the number of ways is fixed.

    In training sequences are dealt at random: :func:`deal`.
    """

    def noise_size(self, params: Params, task: Task) -> int:
        images = task.support_y.shape[-1] + task.query_y.shape[-1]
        return self.hyper.sequences * (images + task.ways)

    def check_ways(self, params: Params, ways: int) -> None:
        """Raise a ValueError unless the task has the ways that the network was made for."""
        check_ways(ways, len(params["out.bias"]), "network reads labels of")

    def features(self, params: Params, x: Tensor) -> Tensor:
        """What the network reads of images: the encoder's features."""
        return self.encoder(under("encoder", params), x)

    def dealt(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """The features [R, S + Q, F] and labels [R, S + Q] of a task's R training sequences.

        Support and query sets go through the encoder apart, as they do after training, when batch
        norms see one or the other.
        """
        order, labels = deal(task, moment.noise, self.hyper.sequences)
        features = [self.features(params, x) for x in (task.support_x, task.query_x)]
        return torch.cat(features)[order], labels


def deal(task: Task, noise: Tensor, sequences: int) -> tuple[Tensor, Tensor]:
    """Sequences of a task's images: their places [R, S + Q] in support and query set, and labels.

    Each is a support set in random order and then its queries. The first is the task as it is; the
    others draw from each class again which examples are in the support set, and call the classes
    by each other's labels (the paper of MANN shuffles labels between episodes, section 2).
    """
    y = torch.cat([task.support_y, task.query_y])
    images, shots = len(y), len(task.support_y)
    draws = noise.view(sequences, images + task.ways)
    queries = torch.arange(shots, images, device=y.device)
    own = torch.cat([draws[0, :shots].argsort(stable=True), queries])
    order = draws[1:, :images].argsort(dim=1, stable=True)
    wanted = members(task.support_y, task.ways).sum(1)
    late = nth(y[order]) >= wanted[y[order]]
    order = order.gather(1, late.to(noise.dtype).argsort(dim=1, stable=True))
    names = draws[1:, images:].argsort(dim=1, stable=True)
    labels = names.gather(1, y[order])
    return torch.cat([own[None], order]), torch.cat([y[own][None], labels])


def one_hot(y: Tensor, ways: int) -> Tensor:
    """Whether each example is of each class, bool […, N]; as ``functional.one_hot`` batches."""
    result: Tensor = y[..., None] == torch.arange(ways, device=y.device)
    return result


def nth(y: Tensor) -> Tensor:
    """How many of the same label come before each, in the last dimension."""
    same = y[..., :, None] == y[..., None, :]
    return same.to(torch.float32).tril(-1).sum(-1)


def turns(y: Tensor) -> Tensor:
    """An order in which a first example of each class comes before any second one, and so on.

    The paper's sequences are in random order. A support set sorted by class, as it often comes, is
    so unlike them that it costs accuracy; in turns, it is read as well as in a random order.
    """
    return nth(y).argsort(stable=True)
