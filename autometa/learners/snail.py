"""SNAIL: a sequence model that reads labelled examples and then labels the next one.

N. Mishra, M. Rohaninejad, X. Chen, P. Abbeel: "A Simple Neural Attentive Meta-Learner", ICLR 2018,
https://arxiv.org/abs/1707.03141

A task is a sequence: the embedded support set, each example beside its label, then a query without
one; the output at the query are its logits (section 3). Temporal convolutions, which gather what
came shortly before, alternate with causal attention, which picks any single item out of all that
came (figure 1, pseudocode in section 3.1). Nothing is adapted: the sequence is the memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Hyper, Moment, Params, Task, initial_parameters, linear, prefixed, under
from .domains import Int, hyper
from .sequences import SequenceHyper, SequenceLearner, one_hot, turns

# Blocks of the appendix's network for few-shot classification: keys 64, 256, 512, values half.
KEY_FACTORS = (1, 4, 8)


@dataclass(frozen=True)
class SNAILHyper(SequenceHyper):
    """Sizes; the defaults are the paper's for few-shot classification (appendix A)."""

    filters: int = hyper(128, Int(16, 128, log=True), "outputs of each temporal convolution")
    key_size: int = hyper(
        64, Int(8, 64, log=True), "keys of the first attention; later ones have 4 and 8 times it"
    )
    dilations: int = hyper(
        5, Int(2, 7), "convolutions of a block, of dilation 1, 2, 4, …; they reach back 2^this"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "filters", "dilations")
        self.at_least(2, "key_size")


@dataclass(frozen=True)
class SNAIL(SequenceLearner[SNAILHyper]):
    """Meta-parameters: ``encoder.*``; ``attention1.*``, ``tc1.i.*``, …; ``out.*``.

    The paper sets the number of dilations by the length of the sequence, ⌈log₂(N·K + 1)⌉; ours is
    a hyper-parameter, so that the weights serve any number of shots. 5 is the paper's for 5-way
    5-shot. Its pseudocode has dilations 2, 4, 8, …, which never look at odd distances; ours begin
    with 1, as in WaveNet, which it follows.

    Every query is the last item of a sequence of its own. Since the network is causal, what it
    makes of the support set is the same in all of them, and is computed once.
    """

    paper: ClassVar[str] = "Mishra, Rohaninejad, Chen, Abbeel 2018, arXiv:1707.03141"
    hyper_type: ClassVar[type[Hyper]] = SNAILHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        filters, channels = self.hyper.filters, self.encoder.features + ways
        keys = iter(self.hyper.key_size * factor for factor in KEY_FACTORS)
        network = nn.ModuleDict()
        with torch.device("meta"):
            for name in self._layers:
                block = network[name] = nn.ModuleDict()
                if name.startswith("attention"):
                    key = next(keys)
                    for part, size in (("query", key), ("key", key), ("value", key // 2)):
                        block[part] = nn.Linear(channels, size)
                    channels += key // 2
                else:
                    for part in ("filter", "gate"):
                        block[part] = nn.Conv1d(channels, filters, 2)
                    channels += filters
            network["out"] = nn.Linear(channels, ways)
        encoder = prefixed("encoder", self.encoder.init(generator))
        return encoder | initial_parameters(network, generator)

    @property
    def _layers(self) -> list[str]:
        blocks = [[f"tc{b}_{i}" for i in range(self.hyper.dilations)] for b in (1, 2)]
        return ["attention1", *blocks[0], "attention2", *blocks[1], "attention3"]

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ways: int
    ) -> list[Tensor]:
        """What each layer sees of the support set, in which the classes take turns.

        Raises:
            ValueError: The task has other ways than the network.
        """
        order = turns(support_y)
        features = self.features(params, support_x)[order]
        return self.read(params, features, support_y[order], ways)

    def read(self, params: Params, features: Tensor, y: Tensor, ways: int) -> list[Tensor]:
        """The inputs of each layer, […, S, channels], from labelled examples in this order.

        Shapes: ``features`` […, S, F], ``y`` […, S].

        Raises:
            ValueError: The task has other ways than the network.
        """
        self.check_ways(params, ways)
        labels = one_hot(y, ways).to(features.dtype)
        return self.trace(params, torch.cat([features, labels], -1))[:-1]

    def predict(self, params: Params, fast: Sequence[Tensor], query_x: Tensor) -> Tensor:
        return self._label(params, fast, self.features(params, query_x))

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Query loss after reading the support set in random order."""
        features, y = self.dealt(params, task, moment)
        shots = len(task.support_y)
        fast = self.read(params, features[:, :shots], y[:, :shots], task.ways)
        logits = self._label(params, fast, features[:, shots:])
        return self.loss(logits.flatten(0, 1), y[:, shots:].flatten()), logits[0]

    def _label(self, params: Params, fast: Sequence[Tensor], features: Tensor) -> Tensor:
        """Logits […, Q, N] of queries' features […, Q, F]."""
        unlabelled = features.new_zeros(*features.shape[:-1], len(params["out.bias"]))
        last = self.trace(params, torch.cat([features, unlabelled], -1), fast)[-1]
        return linear(params, "out", last)

    def trace(
        self, params: Params, rows: Tensor, past: Sequence[Tensor] | None = None
    ) -> list[Tensor]:
        """Inputs of each layer, and what the last one puts out; rows […, T, features + ways].

        Args:
            past: None if the rows are a sequence; else the inputs of each layer from a sequence
                after which each row comes next, independently of the other rows.
        """
        seen = [rows]
        for i, name in enumerate(self._layers):
            weights, before = under(name, params), None if past is None else past[i]
            if name.startswith("attention"):
                rows = attend(weights, rows, before)
            else:
                rows = convolve(weights, rows, before, 2 ** int(name.split("_")[1]))
            seen.append(rows)
        return seen


def attend(weights: Params, rows: Tensor, past: Tensor | None = None) -> Tensor:
    """The attention block: what a row reads from itself and all before, appended to it.

    Shapes: rows […, T, C], past […, S, C] → […, T, C + values]. ``past``: :meth:`SNAIL.trace`.
    """
    query, key, value = (linear(weights, part, rows) for part in ("query", "key", "value"))
    size = key.shape[-1] ** 0.5
    if past is None:
        length = rows.shape[-2]
        visible = torch.ones(length, length, dtype=torch.bool, device=rows.device).tril()
        logits = (query @ key.mT).masked_fill(~visible, -torch.inf)
        read = (logits / size).softmax(-1) @ value
    else:
        itself = (query * key).sum(-1, keepdim=True)
        logits = torch.cat([query @ linear(weights, "key", past).mT, itself], -1)
        share = (logits / size).softmax(-1)
        read = share[..., :-1] @ linear(weights, "value", past) + share[..., -1:] * value
    return torch.cat([rows, read], -1)


def convolve(weights: Params, rows: Tensor, past: Tensor | None, dilation: int) -> Tensor:
    """The dense block: tanh(f) · σ(g) of causal convolutions of width 2, appended to the rows.

    Shapes as of :func:`attend`. A convolution of width 2 is two matrices: for the row, and for the
    one ``dilation`` before it, which is zero before the sequence begins.
    """
    padded = F.pad(rows if past is None else past, (0, 0, dilation, 0))
    if past is None:
        earlier = padded[..., : rows.shape[-2], :]
    else:
        earlier = padded[..., past.shape[-2] :, :][..., :1, :]

    def both(part: str) -> Tensor:
        kernel = weights[f"{part}.weight"]
        return F.linear(rows, kernel[..., 1], weights[f"{part}.bias"]) + earlier @ kernel[..., 0].T

    return torch.cat([rows, both("filter").tanh() * both("gate").sigmoid()], -1)
