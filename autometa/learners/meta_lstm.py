"""Meta-learner LSTM: the network's weights are the cell state of an LSTM that learns to train it.

S. Ravi, H. Larochelle: "Optimization as a Model for Few-Shot Learning", ICLR 2017,
https://openreview.net/forum?id=rJY0-Kcll

A step of gradient descent is an update of an LSTM's cell state, c_t = f_t ⊙ c_{t−1} + i_t ⊙ c̃_t
(equation 2), whose cell state is the weights θ and whose candidate is −∇L. The meta-learner learns
the forget gate f and the input gate i, the rate, as functions of gradient, loss, weights and its
own last gates (section 3.1), the same functions for every weight (section 3.2), and the initial
cell state θ_0. Gradients and losses on the way are taken as constants (section 3.3.1), so that
meta-training needs no second derivatives.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor

from .base import CLASSIFICATION, Hyper, Params
from .domains import Choice, Float, Int, hyper
from .gradients import gradient
from .inner_loop import GradientLearner, flatten, unflatten, weights_of
from .recurrent import lstm_state

P = 10.0
INITIAL_SCALE = 0.01


@dataclass(frozen=True)
class MetaLSTMHyper(Hyper):
    """Updates and the meta-learner; the paper trains on one episode a step.

    It makes 12 updates with the support set for 1 shot and 5 for 5 shots (section 5.1). Its program
    has 20 hidden units, and starts with the biases of the gates in [4, 5] (forget) and [−5, −4]
    (input), the middles of which are ours: the meta-learner begins as gradient descent of rate
    0.011. Memory for meta-training is about ``30 · inner_steps · hidden`` bytes for each of the
    network's weights.
    """

    meta_batch: int = hyper(1, Choice((1, 2, 4, 8)), "tasks per meta-iteration")
    inner_steps: int = hyper(12, Int(1, 12), "updates of the weights with the support set")
    hidden: int = hyper(20, Int(4, 20, log=True), "units of the LSTM below the gates, per weight")
    forget_bias: float = hyper(4.5, Float(3.0, 8.0), "initial logit of how much of a weight stays")
    input_bias: float = hyper(-4.5, Float(-6.0, -1.0), "initial logit of the rate")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "inner_steps", "hidden")


@dataclass(frozen=True)
class MetaLSTM(GradientLearner[MetaLSTMHyper]):
    """Meta-parameters: ``encoder.*`` and ``head.*``, which are θ_0; the LSTM that reads gradients
    and losses, ``lstm.weight_ih`` [4H, 4], ``lstm.weight_hh`` [4H, H] and ``lstm.bias`` [4H]; the
    gates ``forget.weight`` and ``input.weight`` [1, H + 2], ``forget.bias`` and ``input.bias`` [1].

    In meta-testing the paper normalises batches of queries by running statistics of the support set
    (section 3.4); here, as in its meta-training, they have their own.
    """

    paper: ClassVar[str] = "Ravi, Larochelle 2017, OpenReview rJY0-Kcll"
    problems: ClassVar[frozenset[str]] = frozenset({CLASSIFICATION})
    hyper_type: ClassVar[type[Hyper]] = MetaLSTMHyper

    def init(self, ways: int, generator: torch.Generator) -> Params:
        hidden = self.hyper.hidden

        def small(*shape: int) -> Tensor:
            return (2 * torch.rand(shape, generator=generator) - 1) * INITIAL_SCALE

        return self.network_parameters(ways, generator) | {
            "lstm.weight_ih": small(4 * hidden, 4),
            "lstm.weight_hh": small(4 * hidden, hidden),
            "lstm.bias": small(4 * hidden),
            "forget.weight": small(1, hidden + 2),
            "forget.bias": torch.full((1,), float(self.hyper.forget_bias)),
            "input.weight": small(1, hidden + 2),
            "input.bias": torch.full((1,), float(self.hyper.input_bias)),
        }

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> Params:
        """The cell state after the updates (algorithm 1), as the network's weights.

        Raises:
            ValueError: The task has other ways than the head.
        """
        self.check_ways(params, ways)
        like = weights_of(params)

        def support_loss(weights: Params) -> tuple[Tensor, tuple[()]]:
            return self.loss(self.network(weights, support_x), support_y), ()

        theta = flatten(like)
        h = c = theta.new_zeros(len(theta), self.hyper.hidden)
        forget = rate = torch.zeros_like(theta)
        for _ in range(self.hyper.inner_steps):
            # The gradient independence assumption: to the outer loop both are constants.
            grads, loss, _ = gradient(support_loss, unflatten(theta, like))
            slope = flatten(grads)
            seen = torch.cat([preprocess(slope), preprocess(loss).expand(len(slope), 2)], 1)
            h, c = lstm_cell(params, seen, h, c)
            # The paper doesn't say what the gates of step 0 are; its authors begin with zeros.
            forget, rate = (
                gate(params, "forget", h, theta, forget),
                gate(params, "input", h, theta, rate),
            )
            theta = forget * theta - rate * slope
        return unflatten(theta, like)


def preprocess(x: Tensor) -> Tensor:
    """Magnitude and sign of numbers on comparable scales, [..., 2] (section 3.2).

    (log|x| / p, sign x) where |x| ≥ e^−p, else (−1, e^p x): Andrychowicz et al. 2016.
    """
    magnitude = x.abs().clamp_min(math.exp(-P)).log() / P
    return torch.stack([magnitude, (math.exp(P) * x).clamp(-1, 1)], -1)


def lstm_cell(params: Params, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor]:
    """A step of a standard LSTM, every coordinate for itself; ``x`` [P, 4], ``h``, ``c`` [P, H]."""
    sums = F.linear(x, params["lstm.weight_ih"], params["lstm.bias"])
    sums = sums + F.linear(h, params["lstm.weight_hh"])
    return lstm_state(sums, c)


def gate(params: Params, name: str, h: Tensor, theta: Tensor, last: Tensor) -> Tensor:
    """σ(W·[h, θ, last] + b), [P]: ``h`` stands for gradient and loss, ``last`` is this gate's."""
    # Summand by summand, which spares a copy of ``h`` for every gate and step.
    of_h, of_theta, of_last = torch.split(params[f"{name}.weight"][0], [h.shape[1], 1, 1])
    return torch.sigmoid(h @ of_h + of_theta * theta + of_last * last + params[f"{name}.bias"])
