"""The outer optimizers of a cohort's members as one.

Torch's optimizers have one rate for a tensor. With the decay apart, the step of each that we use
is its rate times what the gradients alone decide: so one optimizer takes steps of rate 1 on
tensors that start at zero, and each member's own rate scales what they became.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from autometa.engine.train import DECAYED, MAX_GRADIENT_NORM, TrainState, outer_optimizer
from autometa.learners.base import Learner, Params

COUNT = "step"
"""What torch's optimizers call the number of their steps, which members have in common."""


class OuterSteps:
    """Optimizer state of P members, stacked from theirs.

    Args:
        params: Meta-parameters of all, [P, …].
    """

    def __init__(self, learner: Learner[Any], params: Params, states: Sequence[TrainState]) -> None:
        self._learner = replace(learner, hyper=replace(learner.hyper, meta_weight_decay=0.0))
        self._moves = {name: torch.zeros_like(params[name]) for name in learner.learned(params)}
        self._optimizer = outer_optimizer(self._learner, self._moves)
        for name, move in self._moves.items():
            own = [state.optimizer.state.get(state.params[name], {}) for state in states]
            self._optimizer.state[move] = {
                key: value.clone() if key == COUNT else torch.stack([each[key] for each in own])
                for key, value in own[0].items()
            }

    def step(
        self,
        learners: Sequence[Learner[Any]],
        rates: Sequence[float],
        params: Params,
        grads: Params,
    ) -> Tensor:
        """Replace the meta-parameters [P, …] by the next ones; the gradients' norms [P]."""
        flat = [g.reshape(len(learners), -1) for g in grads.values()]
        norm: Tensor = torch.linalg.vector_norm(torch.cat(flat, 1), dim=1)
        # As torch.nn.utils.clip_grads_with_norm_ does it.
        shares = (MAX_GRADIENT_NORM / (norm + 1e-6)).clamp(max=1.0)
        decays = norm.new_tensor([learner.hyper.meta_weight_decay for learner in learners])
        lr = norm.new_tensor(rates)
        decoupled = self._learner.hyper.meta_optimizer == "adamw"
        for name, move in self._moves.items():
            g = _along(shares, grads[name]) * grads[name]
            if name.startswith(DECAYED) and not decoupled:
                g = g + _along(decays, g) * params[name]
            move.zero_().grad = g
        for group in self._optimizer.param_groups:
            group["lr"] = 1.0
        self._optimizer.step()
        for name, move in self._moves.items():
            value = params[name]
            if name.startswith(DECAYED) and decoupled:
                value = value * _along(1 - lr * decays, value)
            params[name] = value + _along(lr, move) * move
        return norm

    def select(self, index: Tensor) -> None:
        """Keep the members at these positions."""
        moves = {name: move[index] for name, move in self._moves.items()}
        optimizer = outer_optimizer(self._learner, moves)
        for name, move in self._moves.items():
            optimizer.state[moves[name]] = {
                key: value if key == COUNT else value[index]
                for key, value in self._optimizer.state[move].items()
            }
        self._moves, self._optimizer = moves, optimizer

    def write_back(self, state: TrainState, position: int) -> None:
        """The part of the member at a position into its own optimizer."""
        for name, move in self._moves.items():
            own = {
                key: value.clone() if key == COUNT else value[position].clone()
                for key, value in self._optimizer.state[move].items()
            }
            if own:  # else it has none of its own either
                state.optimizer.state[state.params[name]] = own


def _along(numbers: Tensor, like: Tensor) -> Tensor:
    """[P] → [P, 1, …], to be multiplied with a tensor."""
    return numbers.reshape(-1, *[1] * (like.dim() - 1))
