"""MANN: labels come late; its cell against torch's, its memory against NumPy."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from by_hand import Identity
from torch import Tensor, nn

from autometa.engine.strategies import task_scores
from autometa.engine.train import TrainState, meta_train
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Encoder, Moment, Params, under
from autometa.learners.mann import MANN, MANNHyper, access
from autometa.learners.recurrent import lstm_cell
from autometa.learners.sequences import deal
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

SMALL = MANNHyper(controller_size=12, slots=8, slot_size=6, heads=2, sharpness=5.0)


class TestMANN(LearnerTestCase):
    learner = MANN
    hyper = SMALL
    order_invariant = False
    training_iterations = 0  # The easy family would take thousands; see the test of learning below.


class TestLSTM(LearnerTestCase):
    learner = MANN
    hyper = replace(SMALL, memory="lstm", scored="query", sequences=3)
    order_invariant = False
    training_iterations = 0


def scene(*, shots: int = 2, **hyper: object) -> tuple[MANN, Params, Task]:
    learner = MANN(small_encoder(CLASSIFICATION), replace(SMALL, **hyper))  # type: ignore[arg-type]
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


class TwoPoints:
    """Two random points are the classes; queries lie close to them."""

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        points = torch.randn(tasks, 2, 4, generator=generator)
        y = torch.arange(2).expand(tasks, -1)
        queries = points + 0.1 * torch.randn(points.shape, generator=generator)
        return Task(points, y, queries, y, ways=2)


@pytest.mark.parametrize("memory", ["ntm", "lstm"])
def test_it_learns_to_bind_labels_to_what_came_before_them(memory: str) -> None:
    """The easy family at its smallest: from chance to nearly always right."""
    sizes = replace(SMALL, controller_size=32, slots=8, slot_size=8, sharpness=1.0)
    hyper = replace(sizes, memory=memory, scored="query", meta_lr=1e-2, meta_batch=64)
    learner = MANN(Encoder(Identity(), 4), hyper)
    generator = torch.Generator().manual_seed(0)
    state = TrainState.start(learner, learner.init(2, generator), generator)
    for _ in meta_train(learner, state, source=TwoPoints(), iterations=130, strategy="vmap"):
        pass
    batch = TwoPoints().sample(200, generator)
    scores = task_scores(learner, state.params, batch=batch, strategy="vmap")["score"]
    assert scores.mean() > 0.85


def noise(*shape: int) -> Tensor:
    generator = torch.Generator().manual_seed(sum(shape))
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def test_the_controller_is_torch_s_lstm() -> None:
    cell = nn.LSTMCell(5, 7).double()
    weights = {name: value.detach() for name, value in cell.named_parameters()}
    x, hidden, state = noise(4, 5), noise(4, 7), noise(4, 7) + 1
    expected = cell(x, (hidden, state))
    torch.testing.assert_close(lstm_cell(weights, x, hidden, state), expected)


def softmax(x: np.ndarray) -> np.ndarray:
    e = np.exp(x)
    return e / e.sum()


def access_by_hand(
    state: dict[str, np.ndarray], keys: np.ndarray, gate: np.ndarray, decay: float, factor: float
) -> dict[str, np.ndarray]:
    """Equations 2–8 for one task, a head and a location at a time."""
    memory, usage = state["memory"].copy(), decay * state["usage"]
    heads, slots = state["weights"].shape
    least = sorted(range(slots), key=lambda i: state["usage"][i])[:heads]
    memory[least] = 0
    for head in range(heads):
        share = 1 / (1 + np.exp(-gate[head]))
        for i in range(slots):
            w = share * state["weights"][head, i] + (1 - share) * (i == least[head])
            memory[i] += w * keys[head]
            usage[i] += w
    weights, reads = np.zeros((heads, slots)), []
    lengths = np.maximum(np.linalg.norm(memory, axis=1), 1e-12)
    for head, key in enumerate(keys):
        weights[head] = softmax(factor * (memory @ key) / (lengths * np.linalg.norm(key)))
        usage += weights[head]
        reads.append(weights[head] @ memory)
    return {"memory": memory, "weights": weights, "usage": usage, "read": np.concatenate(reads)}


def test_a_step_of_memory_access_is_the_equations() -> None:
    batch, heads, slots, size = 3, 2, 7, 4
    state = {
        "memory": noise(batch, slots, size),
        "weights": noise(batch, heads, slots).softmax(-1),
        "usage": noise(batch, slots).exp(),
    }
    keys, gate = noise(batch, heads, size), noise(heads)
    found = access(state, keys, gate, decay=0.9, sharpness=3.0)
    for b in range(batch):
        one = {name: value[b].numpy() for name, value in state.items()}
        expected = access_by_hand(one, keys[b].numpy(), gate.numpy(), 0.9, 3.0)
        for name, value in expected.items():
            np.testing.assert_allclose(found[name][b], value, rtol=1e-9, err_msg=name)


def test_the_first_heads_take_a_location_each_of_an_empty_memory() -> None:
    zero = torch.zeros(1, 2, 5, dtype=torch.float64)
    empty = {"memory": noise(1, 5, 4) * 0, "weights": zero, "usage": zero[:, 0]}
    keys = noise(1, 2, 4)
    found = access(empty, keys, zero[0, :, 0], decay=0.99, sharpness=1.0)["memory"]
    torch.testing.assert_close(found[0, :2], keys[0] / 2)
    assert not found[0, 2:].any()


def network_by_hand(learner: MANN, params: Params, task: Task) -> np.ndarray:
    """Logits of the support set's steps and then of the first query, one long sequence."""
    x = torch.cat([task.support_x, task.query_x])
    parts = [learner.encoder(under("encoder", params), part) for part in (task.support_x, x[-6:])]
    features, h = torch.cat(parts).detach().numpy(), learner.hyper
    w = {name: value.numpy() for name, value in params.items()}
    cell = nn.LSTMCell(w["lstm.weight_ih"].shape[1], h.controller_size).double()
    cell.load_state_dict(under("lstm", params))
    hidden = state = torch.zeros(1, h.controller_size, dtype=torch.float64)
    memory = {
        "memory": np.zeros((h.slots, h.slot_size)),
        "weights": np.zeros((h.heads, h.slots)),
        "usage": np.zeros(h.slots),
        "read": np.zeros(h.heads * h.slot_size),
    }
    label, logits = np.zeros(3), []
    for t in range(len(task.support_y) + 1):
        seen = [features[t], label, *([memory["read"]] if h.memory == "ntm" else [])]
        hidden, state = cell(torch.from_numpy(np.concatenate(seen))[None], (hidden, state))
        output = hidden[0].detach().numpy()
        if h.memory == "ntm":
            keys = np.tanh(w["key.weight"] @ output + w["key.bias"]).reshape(h.heads, h.slot_size)
            memory = access_by_hand(memory, keys, w["gate"], h.usage_decay, h.sharpness)
            output = np.concatenate([output, memory["read"]])
        logits.append(w["out.weight"] @ output + w["out.bias"])
        if t < len(task.support_y):
            label = np.eye(3)[task.support_y[t]]
    return np.stack(logits)


def read(learner: MANN, params: Params, x: Tensor, y: Tensor) -> Tensor:
    """Logits [S, N] of the steps of one sequence, before their labels."""
    return learner.read(params, learner.features(params, x)[None], y[None], 3)[1][0].detach()


@pytest.mark.parametrize("memory", ["ntm", "lstm"])
def test_the_network_by_hand(memory: str) -> None:
    learner, params, task = scene(memory=memory)
    expected = network_by_hand(learner, params, task)
    logits = read(learner, params, task.support_x, task.support_y)
    # Not exactly, since what is divided by is √(length² + 10⁻¹²).
    np.testing.assert_allclose(logits, expected[:-1], rtol=1e-6)
    np.testing.assert_allclose(predictions(learner, params, task)[0], expected[-1], rtol=1e-6)


@pytest.mark.parametrize("memory", ["ntm", "lstm"])
def test_a_label_is_seen_only_after_its_step(memory: str) -> None:
    learner, params, task = scene(memory=memory)
    before = read(learner, params, task.support_x, task.support_y)
    for t in range(6):
        y = task.support_y.clone()
        y[t] = (y[t] + 1) % 3
        after = read(learner, params, task.support_x, y)
        assert torch.equal(after[: t + 1], before[: t + 1])
        assert ((after - before)[t + 1 :].abs().amax(1) > 1e-9).all()
        changed = predictions(learner, params, replace(task, support_y=y))
        assert not torch.allclose(changed, predictions(learner, params, task), rtol=1e-6)


def test_queries_don_t_see_each_other() -> None:
    """But through the encoder's batch norm, so that features stand for them here."""
    learner, params, task = scene()
    state = learner.adapt(params, task.support_x, task.support_y, 3)
    x = noise(4, 24)
    _, together = learner.step(params, state, x)
    apart = [learner.step(params, state, row[None])[1] for row in x]
    torch.testing.assert_close(together, torch.cat(apart))


@pytest.mark.parametrize("scored", ["all", "query"])
@pytest.mark.parametrize("sequences", [1, 3])
def test_the_objective_is_the_cross_entropy_a_step_of_what_is_dealt(
    scored: str, sequences: int
) -> None:
    learner, params, task = scene(scored=scored, sequences=sequences)
    draw = noise(learner.noise_size(params, task))
    loss, prediction = learner.objective(params, task, Moment(0.0, draw))
    order, labels = deal(task, draw, sequences)
    features = torch.cat([learner.features(params, x) for x in (task.support_x, task.query_x)])
    each = []
    for places, y in zip(order, labels, strict=True):
        state, earlier = learner.read(params, features[places[:6]][None], y[None, :6], 3)
        for place, label in zip(places[6:], y[6:], strict=True):
            query = F.cross_entropy(learner.step(params, state, features[place][None])[1][0], label)
            steps = [*map(F.cross_entropy, earlier[0], y[:6]), query]
            each.append(torch.stack(steps).mean() if scored == "all" else query)
    torch.testing.assert_close(loss, torch.stack(each).mean())
    state, _ = learner.read(params, features[order[0, :6]][None], labels[:1, :6], 3)
    torch.testing.assert_close(prediction, learner.predict(params, state, task.query_x))


def test_classes_take_turns_when_the_support_set_is_read() -> None:
    learner, params, task = scene()
    order = task.support_y.argsort(stable=True)
    by_class = replace(task, support_x=task.support_x[order], support_y=task.support_y[order])
    expected = predictions(learner, params, task)
    torch.testing.assert_close(predictions(learner, params, by_class), expected)


def test_defaults_are_the_paper_s() -> None:
    params = MANN(small_encoder(CLASSIFICATION), MANNHyper()).init(5, torch.Generator())
    assert params["lstm.weight_ih"].shape == (4 * 200, 24 + 5 + 4 * 40)
    assert params["out.weight"].shape == (5, 200 + 4 * 40)
    assert (MANNHyper().slots, MANNHyper().usage_decay, MANNHyper().sharpness) == (128, 0.99, 1.0)


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("slots", 0, "slots is 0, but must be at least 1"),
        ("heads", 200, "heads is 200, but must be at most slots"),
        ("usage_decay", 1.5, "usage_decay is 1.5"),
        ("sharpness", 0.0, "sharpness is 0"),
        ("memory", "none", "memory is 'none'"),
    ],
)
def test_impossible_numbers_are_refused(name: str, value: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MANNHyper(**{name: value})  # type: ignore[arg-type]
