"""MANN: a recurrent network with an external memory, which is shown each label a step late.

A. Santoro, S. Bartunov, M. Botvinick, D. Wierstra, T. Lillicrap: "Meta-Learning with
Memory-Augmented Neural Networks", ICML 2016 (with a supplement, whose sections are 6 to 9); on
arXiv "One-shot Learning with …", https://arxiv.org/abs/1605.06065

A task is a sequence (x_1, nothing), (x_2, y_1), … (section 2): the network has to keep x_t until
its label comes, bind the two, and find them again when the class returns. A controller (LSTM) reads
a memory by cosine similarity (equations 2–4) and writes to the place that it read last, or to the
least recently used (equations 5–8). Its hidden state and what was read give the class
probabilities. Nothing is adapted but the state: weights learn slowly, the memory at once.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from .base import Hyper, Moment, Params, Task, initial_parameters, linear, prefixed, under
from .domains import Choice, Float, Int, hyper
from .recurrent import lstm_cell
from .sequences import SequenceHyper, SequenceLearner, one_hot, turns

State = dict[str, Tensor]


@dataclass(frozen=True)
class MANNHyper(SequenceHyper):
    """Sizes and decay; the defaults are the paper's (supplement, section 9).

    It was trained for 100,000 episodes by RMSProp, with a rate of 10⁻⁴, which isn't comparable with
    the outer Adam's, momentum 0.9 and mini-batches of 16.
    """

    memory: str = hyper("ntm", Choice(("lstm", "ntm")), "external memory, or the controller alone")
    controller_size: int = hyper(200, Int(50, 200, log=True), "units of the LSTM")
    slots: int = hyper(128, Int(16, 128, log=True), "locations of the memory")
    slot_size: int = hyper(40, Int(10, 80, log=True), "numbers in a location")
    heads: int = hyper(4, Int(1, 4), "locations read and written in a step")
    usage_decay: float = hyper(0.99, Float(0.9, 0.999), "what a step leaves of earlier usage")
    sharpness: float = hyper(
        1.0,
        Float(1.0, 30.0, log=True),
        "factor of the similarities before the softmax of reading (NTM's key strength)",
    )
    scored: str = hyper("all", Choice(("all", "query")), "steps whose predictions training scores")

    def __post_init__(self) -> None:
        super().__post_init__()
        self.at_least(1, "controller_size", "slots", "slot_size", "heads")
        if self.heads > self.slots:
            raise ValueError(f"heads is {self.heads}, but must be at most slots, {self.slots}")
        if not 0 <= self.usage_decay <= 1:
            raise ValueError(f"usage_decay is {self.usage_decay}, but must be in [0, 1]")
        self.above(0, "sharpness")


@dataclass(frozen=True)
class MANN(SequenceLearner[MANNHyper]):
    """Meta-parameters: ``encoder.*``; ``lstm.*``; ``key.*`` and ``gate`` [heads]; ``out.*``.

    A query is the step after the support set, each from the same state. In the paper's sequences,
    50 steps for five ways, every item is a query until its label comes; ``scored`` says whether
    that is kept. The paper has no encoder: the controller reads the 20 × 20 pixels.
    """

    paper: ClassVar[str] = "Santoro et al. 2016, arXiv:1605.06065"
    hyper_type: ClassVar[type[Hyper]] = MANNHyper

    @property
    def _remembers(self) -> bool:
        return self.hyper.memory == "ntm"

    def init(self, ways: int, generator: torch.Generator) -> Params:
        h, read = self.hyper, self.hyper.heads * self.hyper.slot_size * self._remembers
        network = nn.ModuleDict()
        with torch.device("meta"):
            inputs = self.encoder.features + ways + read
            network["lstm"] = nn.LSTMCell(inputs, h.controller_size)
            network["out"] = nn.Linear(h.controller_size + read, ways)
            if self._remembers:
                network["key"] = nn.Linear(h.controller_size, read)
        params = prefixed("encoder", self.encoder.init(generator))
        params |= initial_parameters(network, generator)
        return params | ({"gate": torch.zeros(h.heads)} if self._remembers else {})

    def adapt(self, params: Params, support_x: Tensor, support_y: Tensor, ways: int) -> State:
        """The state after the support set, dealt out class by class, and its last ``label``.

        Raises:
            ValueError: The task has other ways than the network.
        """
        order = turns(support_y)
        features = self.features(params, support_x)[order]
        return self.read(params, features[None], support_y[order][None], ways)[0]

    def predict(self, params: Params, fast: State, query_x: Tensor) -> Tensor:
        return self.step(params, fast, self.features(params, query_x))[1]

    def objective(self, params: Params, task: Task, moment: Moment) -> tuple[Tensor, Tensor]:
        """Cross-entropy a step of the sequences "support set in random order, one query".

        The paper's sum of all steps (equation 25), divided by their number; the mean over the
        queries and the sequences dealt from the task.
        """
        features, y = self.dealt(params, task, moment)
        steps, queries = len(task.support_y), len(task.query_y)
        state, earlier = self.read(params, features[:, :steps], y[:, :steps], task.ways)
        each = {name: value.repeat_interleave(queries, 0) for name, value in state.items()}
        _, logits = self.step(params, each, features[:, steps:].flatten(0, 1))
        loss = self.loss(logits, y[:, steps:].flatten())
        if self.hyper.scored == "all":
            before = self.loss(earlier.flatten(0, 1), y[:, :steps].flatten())
            loss = (steps * before + loss) / (steps + 1)
        return loss, logits[:queries]

    def read(self, params: Params, features: Tensor, y: Tensor, ways: int) -> tuple[State, Tensor]:
        """The state after sequences, and the logits [B, S, N] of each step, before its label.

        Shapes: ``features`` [B, S, F], ``y`` [B, S].

        Raises:
            ValueError: The task has other ways than the network.
        """
        self.check_ways(params, ways)
        labels = one_hot(y, ways).to(features.dtype)
        state, logits = self._start(features.new_zeros(1, 1), ways), []
        for t in range(y.shape[1]):
            state, output = self.step(params, state, features[:, t])
            state["label"] = labels[:, t]
            logits.append(output)
        return state, torch.stack(logits, 1)

    def step(self, params: Params, state: State, x: Tensor) -> tuple[State, Tensor]:
        """One time step for each row of x, [B, features]; states [1 or B, …]; logits [B, N]."""
        seen = [x, state["label"].expand(len(x), -1)]
        if self._remembers:
            seen.append(state["read"].expand(len(x), -1))
        hidden, cell = lstm_cell(
            under("lstm", params), torch.cat(seen, -1), state["hidden"], state["cell"]
        )
        new, output = {**state, "hidden": hidden, "cell": cell}, hidden
        if self._remembers:
            # In the paper the cell state serves as the key (supplement, section 6.1), without a
            # word on how it gets the size of a location; tanh keeps what is written bounded.
            keys = linear(params, "key", hidden).tanh()
            keys = keys.view(len(x), self.hyper.heads, self.hyper.slot_size)
            new |= self._access(params["gate"], state, keys)
            output = torch.cat([hidden, new["read"]], -1)
        return new, linear(params, "out", output)

    def _access(self, gate: Tensor, state: State, keys: Tensor) -> State:
        h = self.hyper
        return access(state, keys, gate, decay=h.usage_decay, sharpness=h.sharpness)

    def _start(self, zero: Tensor, ways: int) -> State:
        """Nothing seen, nothing remembered; ``zero`` [1, 1] gives type and device."""
        h = self.hyper
        state = {"label": zero.expand(1, ways)}
        state |= dict.fromkeys(("hidden", "cell"), zero.expand(1, h.controller_size))
        if self._remembers:
            state["memory"] = zero[..., None].expand(1, h.slots, h.slot_size)
            state["weights"] = zero[..., None].expand(1, h.heads, h.slots)
            state["usage"] = zero.expand(1, h.slots)
            state["read"] = zero.expand(1, h.heads * h.slot_size)
        return state


def access(state: State, keys: Tensor, gate: Tensor, *, decay: float, sharpness: float) -> State:
    """One step of least recently used access: write the keys, then read by them.

    Each head has its own key, reading weights, gate α (the paper has a single scalar) and, of the n
    least used locations for n heads (equation 6), its own one; that the heads share them all would
    make them write the same.

    Args:
        state: ``memory`` [1 or B, slots, size]; ``weights`` of the last reading [1 or B, heads,
            slots]; ``usage`` [1 or B, slots].
        keys: [B, heads, size].
        gate: α of equation 7, [heads].

    Returns:
        The new entries, and ``read`` [B, heads · size].
    """
    memory, usage, slots = state["memory"], state["usage"], state["usage"].shape[-1]
    # Equation 6. Exactly n of them: at the start all locations are equally unused.
    least = usage.detach().argsort(dim=-1, stable=True)[..., : keys.shape[-2], None]
    least_used = (least == torch.arange(slots, device=usage.device)).to(keys.dtype)
    g = gate.sigmoid()[:, None]
    written = g * state["weights"] + (1 - g) * least_used  # Equation 7.
    # Equation 8; before it, what lies in the least used locations is erased.
    memory = memory * (1 - least_used.sum(-2))[..., None] + written.mT @ keys
    similarity = unit(keys) @ unit(memory).mT  # Equation 2.
    weights = (sharpness * similarity).softmax(-1)  # Equation 3.
    read = weights @ memory  # Equation 4.
    usage = decay * usage + weights.sum(-2) + written.sum(-2)  # Equation 5.
    return {"memory": memory, "weights": weights, "usage": usage, "read": read.flatten(-2)}


def unit(x: Tensor) -> Tensor:
    """Rows of length 1; those of length 0 (locations never written to) stay, and match nothing."""
    return x * (x.square().sum(-1, keepdim=True) + 1e-12).rsqrt()
