"""A step of an LSTM, of operations that ``vmap`` batches (torch's own modules aren't)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from .base import Params


def lstm_cell(weights: Params, x: Tensor, hidden: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """One step with the weights of :class:`torch.nn.LSTMCell`: hidden and cell state, […, H]."""
    gates = F.linear(x, weights["weight_ih"], weights["bias_ih"])
    gates = gates + F.linear(hidden, weights["weight_hh"], weights["bias_hh"])
    return lstm_state(gates, cell)


def lstm_state(gates: Tensor, cell: Tensor) -> tuple[Tensor, Tensor]:
    """Hidden and cell state from the gates before their sigmoids, […, 4H], in torch's order."""
    enter, keep, candidate, leave = gates.chunk(4, dim=-1)
    cell = keep.sigmoid() * cell + enter.sigmoid() * candidate.tanh()
    return leave.sigmoid() * cell.tanh(), cell
