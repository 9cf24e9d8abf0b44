"""Relation networks: a learned module says how much a query has to do with a class.

F. Sung, Y. Yang, L. Zhang, T. Xiang, P. Torr, T. Hospedales: "Learning to Compare: Relation Network
for Few-Shot Learning", CVPR 2018, https://arxiv.org/abs/1711.06025

A class is the sum of its embedded support examples (section 3.2, K-shot). Its features and a
query's, concatenated, go through the relation module g, which ends in a sigmoid: the relation score
r in [0, 1] (equation 1). Encoder and module are trained together to regress the scores to 1 for the
query's class and 0 for the others by their squared errors (equation 2).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import (
    SCHEDULES,
    Hyper,
    Learner,
    Moment,
    Params,
    Task,
    initial_parameters,
    linear,
    members,
    prefixed,
    under,
)
from .domains import Choice, Int, hyper


@dataclass(frozen=True)
class RelationHyper(Hyper):
    """The relation module and its loss; the paper trains on one episode a step."""

    meta_batch: int = hyper(1, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    meta_schedule: str = hyper("constant", SCHEDULES, "course of the outer rate over the budget")
    width: int = hyper(64, Int(16, 256, log=True), "units of the module's first two layers")
    hidden: int = hyper(8, Int(4, 64, log=True), "units of the module's last hidden layer")
    loss_type: str = hyper(
        "mse",
        Choice(("mse", "cross_entropy")),
        "squared errors of the relation scores, or cross-entropy of the classes",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "width", "hidden")


@dataclass(frozen=True)
class Relation(Learner[RelationHyper]):
    """Meta-parameters: ``encoder.*``; ``relation.*``, four linear layers.

    The paper's module is two convolution blocks of 64 filters on feature maps and two dense layers,
    of 8 units and of 1. An encoder here gives flat features, so that the blocks become dense layers
    of ``width`` units, without batch normalisation.
    """

    paper: ClassVar[str] = "Sung, Yang, Zhang, Xiang, Torr, Hospedales 2018, arXiv:1711.06025"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = RelationHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        width, hidden, pair = self.hyper.width, self.hyper.hidden, 2 * self.encoder.features
        with torch.device("meta"):
            module = nn.ModuleDict(
                {
                    "fc1": nn.Linear(pair, width),
                    "fc2": nn.Linear(width, width),
                    "fc3": nn.Linear(width, hidden),
                    "fc4": nn.Linear(hidden, 1),
                }
            )
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | prefixed("relation", initial_parameters(module, generator))

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Tensor:
        """The classes' sums of embedded examples, [N, features]."""
        embedded = self.encoder(under("encoder", params), support_x)
        return members(support_y, ways).to(embedded.dtype) @ embedded

    def predict(self, params: Params, fast: Tensor, query_x: Tensor) -> Tensor:
        """Relation scores before the sigmoid, [Q, N]: they rank the classes as the scores do.

        As logits they make the classes' probabilities proportional to the odds r / (1 − r).
        """
        queries = self.encoder(under("encoder", params), query_x)
        module = under("relation", params)
        # On a concatenation the first layer is the sum of its two halves' products, and nothing of
        # size [Q, N, 2 · features] arises.
        of_class, of_query = module["fc1.weight"].chunk(2, dim=1)
        x = F.linear(fast, of_class) + F.linear(queries, of_query, module["fc1.bias"])[:, None]
        for layer in ("fc2", "fc3", "fc4"):
            x = linear(module, layer, F.relu(x))
        return x.squeeze(-1)

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Equation 2 (as the mean over queries and classes, not the sum), or the query loss."""
        loss, logits = self.query_loss(params, task)
        if self.hyper.loss_type == "mse":
            target = members(task.query_y, task.ways).T.to(logits.dtype)
            loss = F.mse_loss(logits.sigmoid(), target)
        return loss, logits
