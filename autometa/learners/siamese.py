"""Siamese networks: learn whether two examples are of one class, then look for the likest.

G. Koch, R. Zemel, R. Salakhutdinov: "Siamese Neural Networks for One-shot Image Recognition", ICML
2015 Deep Learning Workshop, https://www.cs.cmu.edu/~rsalakhu/papers/oneshot1.pdf

Two examples go through the same encoder and a dense layer of sigmoid units; the probability that
they are of one class is p = σ(Σ_j α_j |h_1j − h_2j|), with a learned weight α_j of each component
(section 3.1). Training minimises the binary cross-entropy of pairs (section 3.2). In a one-shot
trial a query belongs to the class of the support example for which p is the highest (section 4.3).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Hyper, Learner, Moment, Params, Task, initial_parameters, members, prefixed, under
from .domains import Choice, hyper


@dataclass(frozen=True)
class SiameseHyper(Hyper):
    """The layer before the distance, and what a class with several shots is judged by."""

    units: int = hyper(
        4096,
        Choice((0, 64, 256, 1024, 4096)),
        "sigmoid units between the encoder and the distance; 0: distance of its own features",
    )
    pooling: str = hyper(
        "max",
        Choice(("max", "mean")),
        "whether the likest example of a class counts, or the mean over them",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(0, "units")


@dataclass(frozen=True)
class Siamese(Learner[SiameseHyper]):
    """Meta-parameters: ``encoder.*``; ``embed.*``, a layer; ``similarity.*``, [1, units] and [1].

    The paper's formula has no bias beside α, but then identical examples have p = ½, and no pair
    has more where all α are negative; its "fully-connected layer" is taken to have one. The paper's
    decay of the weights is left out.
    """

    paper: ClassVar[str] = "Koch, Zemel, Salakhutdinov 2015"
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = SiameseHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        features, units = self.encoder.features, self.hyper.units
        params = prefixed("encoder", self.encoder.init(generator))
        if units:
            embed = nn.Linear(features, units, device="meta")
            params |= prefixed("embed", initial_parameters(embed, generator))
        similarity = nn.Linear(units or features, 1, device="meta")
        return params | prefixed("similarity", initial_parameters(similarity, generator))

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ways: int
    ) -> dict[str, Tensor]:
        """``support``: the embeddings, [N·K, units]; ``member``: whose they are, [N, N·K].

        Every class needs an example.
        """
        return {"support": self._embed(params, support_x), "member": members(support_y, ways)}

    def predict(self, params: Params, fast: dict[str, Tensor], query_x: Tensor) -> Tensor:
        """Similarities of the queries and the classes before the sigmoid, [Q, N].

        As logits they make a class's probability proportional to the odds p / (1 − p). With one
        shot that is the posterior, as far as pairs are independent and p is right for pairs that
        are alike half of the time, as those that :meth:`objective` trains on; with more shots it
        is a choice, and so is the class's most similar example, since the paper has one-shot
        trials only.
        """
        return self._classes(params, fast, self._embed(params, query_x))

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Binary cross-entropy over all pairs of the task's support and query examples.

        Pairs of one class and of two have half of the weight each: this is the mean over draws of
        as many of one as of the other. The paper samples "random same and different pairs" (section
        4.2), and doesn't say how many of each.
        """
        fast = self.adapt(params, task.support_x, task.support_y, task.ways)
        queries = self._embed(params, task.query_x)
        embedded = torch.cat([fast["support"], queries])
        y = torch.cat([task.support_y, task.query_y])
        logits = self._similarity(params, embedded, embedded)
        alike = y[:, None] == y
        pair = torch.ones_like(alike).triu(1)
        loss = (
            _mean(-F.logsigmoid(logits), pair & alike)
            + _mean(-F.logsigmoid(-logits), pair & ~alike)
        ) / 2
        return loss, self._classes(params, fast, queries)

    def _embed(self, params: Params, x: Tensor) -> Tensor:
        features = self.encoder(under("encoder", params), x)
        if not self.hyper.units:
            return features
        return F.linear(features, params["embed.weight"], params["embed.bias"]).sigmoid()

    def _similarity(self, params: Params, left: Tensor, right: Tensor) -> Tensor:
        """Σ_j α_j |h_1j − h_2j| and the bias, of all pairs, [L, R].

        ``cdist`` sums without anything of size [L, R, units], but knows no weights: so those of
        either sign scale what it compares.
        """
        alpha = params["similarity.weight"]
        more, less = alpha.relu(), (-alpha).relu()
        like = torch.cdist(left * more, right * more, p=1)
        unlike = torch.cdist(left * less, right * less, p=1)
        return like - unlike + params["similarity.bias"]

    def _classes(self, params: Params, fast: dict[str, Tensor], queries: Tensor) -> Tensor:
        similarity = self._similarity(params, queries, fast["support"])
        member = fast["member"]
        if self.hyper.pooling == "max":
            return torch.where(member, similarity[:, None], -torch.inf).amax(-1)
        share = member.to(similarity.dtype)
        return similarity @ (share / share.sum(1, keepdim=True)).T


def _mean(values: Tensor, where: Tensor) -> Tensor:
    """Mean over the entries that ``where`` marks; 0 if there are none."""
    return torch.where(where, values, 0).sum() / where.sum().clamp(min=1)
