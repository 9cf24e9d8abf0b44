"""What the learners share that read a support set as a sequence of labelled examples."""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass

import torch
from torch import Tensor

from .base import H, Learner, Moment, Params, Task, check_ways


@dataclass(frozen=True)
class SequenceLearner(Learner[H], ABC):
    """Labels go in one-hot and come out of the layer ``out``, so the number of ways is fixed.

    In training the order of the support set is random: :func:`shuffled`.
    """

    def noise_size(self, params: Params, task: Task) -> int:
        return task.support_y.shape[-1]

    def check_ways(self, params: Params, ways: int) -> None:
        """Raise a ValueError unless the task has the ways that the network was made for."""
        check_ways(ways, len(params["out.bias"]), "network reads labels of")


def shuffled(task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
    """The support set and its labels in a random order."""
    order = moment.noise.argsort(stable=True)
    return task.support_x[order], task.support_y[order]


def dealt(y: Tensor) -> Tensor:
    """An order in which a first example of each class comes before any second one, and so on.

    The paper's sequences are in random order. A support set sorted by class, as it often comes, is
    so unlike them that it costs accuracy; dealt out, it is read as well as a random one.
    """
    earlier = (y[:, None] == y).to(torch.float32).tril(-1).sum(1)
    return earlier.argsort(stable=True)
