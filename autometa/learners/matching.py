"""Matching networks: a query's label is an attention-weighted mean of the support labels.

O. Vinyals, C. Blundell, T. Lillicrap, K. Kavukcuoglu, D. Wierstra: "Matching Networks for One Shot
Learning", NeurIPS 2016, https://arxiv.org/abs/1606.04080

The class distribution of a query is the sum of the support set's one-hot labels under an attention
(equation 1), which is the softmax over the cosine similarities of the embeddings f(x̂) and g(x_i)
(section 2.1.1). In the simple form f = g is the encoder. With full-context embeddings g reads the
support set by a bidirectional LSTM (appendix A.2), and f reads it again and again by an LSTM with
attention, starting from the query (appendix A.1, equations 3 to 6).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .base import Hyper, Learner, Params, initial_parameters, members, prefixed, under
from .domains import Choice, Float, Int, hyper
from .recurrent import lstm_cell


@dataclass(frozen=True)
class MatchingHyper(Hyper):
    """The attention, and how much of the support set an embedding sees.

    The paper doesn't tell its number of processing steps; 5 is among those tried in "Order Matters"
    (Vinyals, Bengio, Kudlur 2016, arXiv:1511.06391), whence the attention LSTM comes.
    """

    scale: float = hyper(1.0, Float(1.0, 30.0, log=True), "factor of the cosine in the attention")
    full_context: bool = hyper(
        False, Choice((False, True)), "whether embeddings depend on the whole support set"
    )
    processing_steps: int = hyper(
        5, Int(1, 8), "reads of the support set by a query's LSTM, with full context"
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self.above(0, "scale")
        self.at_least(1, "processing_steps")


@dataclass(frozen=True)
class Matching(Learner[MatchingHyper]):
    """Meta-parameters: ``encoder.*``; with full context three LSTM cells.

    These are ``forward.*`` and ``backward.*`` of the support set and ``attention.*`` of the
    queries, with the weights and gates of :class:`torch.nn.LSTMCell`.
    """

    paper: ClassVar[str] = (
        "Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra 2016, arXiv:1606.04080"
    )
    any_ways: ClassVar[bool] = True
    hyper_type: ClassVar[type[Hyper]] = MatchingHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        params = prefixed("encoder", self.encoder.init(generator))
        if self.hyper.full_context:
            size = self.encoder.features
            for name, inputs in (("forward", size), ("backward", size), ("attention", 2 * size)):
                cell = nn.LSTMCell(inputs, size, device="meta")
                params |= prefixed(name, initial_parameters(cell, generator))
        return params

    def adapt(
        self, params: Params, support_x: Tensor, support_y: Tensor, ways: int
    ) -> dict[str, Tensor]:
        """``support``: g(x_i), [N·K, features]; ``member``: the labels as one-hot rows [N, N·K].

        Every class needs an example.
        """
        support = self.encoder(under("encoder", params), support_x)
        if self.hyper.full_context:
            support = self._read_in_order(params, support)
        return {"support": support, "member": members(support_y, ways).to(support.dtype)}

    def predict(self, params: Params, fast: dict[str, Tensor], query_x: Tensor) -> Tensor:
        """The logarithms of equation 1, [Q, N]: as logits they are their own log-softmax."""
        queries = self.encoder(under("encoder", params), query_x)
        support, member = fast["support"], fast["member"]
        if self.hyper.full_context:
            queries = self._attend(params, queries, support)
        cosine = F.normalize(queries, dim=-1) @ F.normalize(support, dim=-1).T
        attention = F.log_softmax(self.hyper.scale * cosine, dim=-1)
        # The sum over a class is taken in logarithms, so that no probability underflows to zero.
        return torch.where(member > 0, attention[:, None], -torch.inf).logsumexp(-1)

    def _read_in_order(self, params: Params, support: Tensor) -> Tensor:
        """Appendix A.2: g(x_i, S) = h→_i + h←_i + g'(x_i), in the order of the support set."""
        rows = support.unbind()
        forward = _lstm(under("forward", params), rows)
        backward = _lstm(under("backward", params), rows[::-1])[::-1]
        return torch.stack(forward) + torch.stack(backward) + support

    def _attend(self, params: Params, queries: Tensor, support: Tensor) -> Tensor:
        """Appendix A.1: h_K of each query, [Q, features].

        The paper leaves the start open: here ĥ_0 = c_0 = 0, so that h_0 = f'(x̂) by equation 4 and
        the first read already looks for the query.
        """
        weights = under("attention", params)
        hidden, cell = queries, torch.zeros_like(queries)
        for _ in range(self.hyper.processing_steps):
            read = torch.softmax(hidden @ support.T, dim=-1) @ support  # Equations 5 and 6.
            # Equation 3 has the read-out beside the hidden state; beside the input it meets the
            # same gates, which are linear in all three.
            inputs = torch.cat([queries, read], dim=-1)
            output, cell = lstm_cell(weights, inputs, hidden, cell)
            hidden = output + queries  # Equation 4.
        return hidden


def _lstm(weights: Params, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The hidden states of an LSTM that starts from zeros; inputs and outputs [features] each."""
    hidden = cell = torch.zeros_like(inputs[0])
    states = []
    for x in inputs:
        hidden, cell = lstm_cell(weights, x, hidden, cell)
        states.append(hidden)
    return states
