"""SNAIL: causality of the sequence network, and its blocks against NumPy and ``F.conv1d``."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Moment, Params, under
from autometa.learners.sequences import deal, turns
from autometa.learners.snail import SNAIL, SNAILHyper, attend, convolve
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

SMALL = SNAILHyper(filters=6, key_size=4, dilations=3)


class TestSNAIL(LearnerTestCase):
    learner = SNAIL
    hyper = replace(SMALL, dilations=2, sequences=4)
    order_invariant = False
    training_iterations = 80


def scene(*, shots: int = 3, sequences: int = 1) -> tuple[SNAIL, Params, Task]:
    learner = SNAIL(small_encoder(CLASSIFICATION), replace(SMALL, sequences=sequences))
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def rows(count: int, channels: int = 27) -> Tensor:
    generator = torch.Generator().manual_seed(5)
    return torch.randn(count, channels, generator=generator, dtype=torch.float64)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def attention_by_hand(weights: Params, x: np.ndarray) -> np.ndarray:
    """The pseudocode of the attention block, a step at a time."""
    w = {name: value.numpy() for name, value in weights.items()}
    q, k, v = (x @ w[f"{part}.weight"].T + w[f"{part}.bias"] for part in ("query", "key", "value"))
    read = np.zeros((len(x), v.shape[1]))
    for t in range(len(x)):
        e = np.array([np.exp(q[t] @ k[s] / np.sqrt(k.shape[1])) for s in range(t + 1)])
        read[t] = (e / e.sum()) @ v[: t + 1]
    return np.concatenate([x, read], 1)


def dense_by_hand(weights: Params, x: np.ndarray, dilation: int) -> np.ndarray:
    """The pseudocode of the dense block, a step at a time."""
    w = {name: value.numpy() for name, value in weights.items()}
    made = {}
    for part in ("filter", "gate"):
        steps = []
        for t in range(len(x)):
            before = x[t - dilation] if t >= dilation else np.zeros(x.shape[1])
            kernel = w[f"{part}.weight"]
            steps.append(kernel[:, :, 1] @ x[t] + kernel[:, :, 0] @ before + w[f"{part}.bias"])
        made[part] = np.stack(steps)
    return np.concatenate([x, np.tanh(made["filter"]) * sigmoid(made["gate"])], 1)


def network_by_hand(params: Params, x: np.ndarray) -> np.ndarray:
    """The whole sequence network of the appendix: logits at every step."""
    x = attention_by_hand(under("attention1", params), x)
    for block in (1, 2):
        for i in range(3):
            x = dense_by_hand(under(f"tc{block}_{i}", params), x, (1, 2, 4)[i])
        x = attention_by_hand(under(f"attention{block + 1}", params), x)
    return x @ params["out.weight"].numpy().T + params["out.bias"].numpy()


def logits(learner: SNAIL, params: Params, sequence: Tensor) -> Tensor:
    last = learner.trace(params, sequence)[-1]
    return F.linear(last, params["out.weight"], params["out.bias"])


def test_the_attention_block_is_the_pseudocode() -> None:
    _, params, _ = scene()
    weights, x = under("attention1", params), rows(7)
    np.testing.assert_allclose(attend(weights, x), attention_by_hand(weights, x.numpy()))


@pytest.mark.parametrize("dilation", [1, 2, 4, 8])
def test_the_dense_block_is_the_pseudocode(dilation: int) -> None:
    _, params, _ = scene()
    weights = under("tc1_0", params)
    x = rows(7, weights["filter.weight"].shape[1])
    actual = convolve(weights, x, None, dilation)
    np.testing.assert_allclose(actual, dense_by_hand(weights, x.numpy(), dilation))


@pytest.mark.parametrize("dilation", [1, 2, 4])
def test_the_convolutions_are_torch_s_with_padding_on_the_left(dilation: int) -> None:
    _, params, _ = scene()
    weights = under("tc1_0", params)
    x = rows(7, weights["filter.weight"].shape[1])
    padded = F.pad(x.T[None], (dilation, 0))
    f, g = (
        F.conv1d(padded, weights[f"{part}.weight"], weights[f"{part}.bias"], dilation=dilation)
        for part in ("filter", "gate")
    )
    expected = torch.cat([x, (f.tanh() * g.sigmoid())[0].T], 1)
    torch.testing.assert_close(convolve(weights, x, None, dilation), expected)


def test_the_network_is_the_appendix_s() -> None:
    learner, params, _ = scene()
    x = rows(10)
    np.testing.assert_allclose(
        logits(learner, params, x), network_by_hand(params, x.numpy()), rtol=1e-9
    )


@pytest.mark.parametrize("shots", [1, 3])
def test_a_query_is_the_last_item_of_a_sequence_of_its_own(shots: int) -> None:
    learner, params, task = scene(shots=shots)
    weights = under("encoder", params)
    x, queries = (learner.encoder(weights, part) for part in (task.support_x, task.query_x))
    support = torch.cat([x, torch.eye(3, dtype=torch.float64)[task.support_y]], 1)
    actual = predictions(learner, params, task)
    for q, query in enumerate(queries):
        sequence = torch.cat([support, torch.cat([query, query.new_zeros(3)])[None]])
        expected = network_by_hand(params, sequence.detach().numpy())[-1]
        np.testing.assert_allclose(actual[q], expected, rtol=1e-9)


def test_the_network_is_causal_and_looks_back_to_the_beginning() -> None:
    learner, params, _ = scene()
    x = rows(9)
    before = logits(learner, params, x)
    for t in range(9):
        changed = x.clone()
        changed[t] += 1
        after = logits(learner, params, changed)
        assert torch.equal(after[:t], before[:t])
        assert ((after - before)[t:].abs().amax(1) > 1e-9).all()


def test_the_convolutions_of_a_block_reach_every_distance() -> None:
    """With dilations 1, 2, 4 the last of 8 rows depends on all of them, without attention."""
    _, params, _ = scene()

    def block(x: Tensor) -> Tensor:
        for i in range(3):
            x = convolve(under(f"tc1_{i}", params), x, None, 2**i)
        return x[-1].sum()

    x = rows(9, params["tc1_0.filter.weight"].shape[1])
    reached = torch.func.grad(block)(x).abs().sum(1) > 0
    assert reached.tolist() == [False, *[True] * 8]


@pytest.mark.parametrize("sequences", [1, 3])
def test_training_reads_what_is_dealt(sequences: int) -> None:
    learner, params, task = scene(sequences=sequences)
    size = learner.noise_size(params, task)
    noise = torch.randn(size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    loss, found = learner.objective(params, task, Moment(0.0, noise))
    order, labels = deal(task, noise, sequences)
    features = torch.cat([learner.features(params, x) for x in (task.support_x, task.query_x)])
    each = []
    for places, y in zip(order, labels, strict=True):
        rows = torch.cat([features[places], torch.eye(3, dtype=torch.float64)[y]], 1)
        for query in rows[9:]:
            sequence = torch.cat([rows[:9], query[None] * (torch.arange(len(query)) < 24)])
            each.append(network_by_hand(params, sequence.detach().numpy())[-1])
    logits = torch.from_numpy(np.stack(each))
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels[:, 9:].flatten()))
    torch.testing.assert_close(found, logits[: len(task.query_y)])


def test_classes_take_turns_when_the_support_set_is_read() -> None:
    assert turns(torch.tensor([0, 0, 0, 1, 1, 2, 2, 2])).tolist() == [0, 3, 5, 1, 4, 6, 2, 7]
    learner, params, task = scene()
    order = task.support_y.argsort(stable=True)
    by_class = replace(task, support_x=task.support_x[order], support_y=task.support_y[order])
    expected = predictions(learner, params, task)
    torch.testing.assert_close(predictions(learner, params, by_class), expected)


def test_defaults_have_the_paper_s_sizes() -> None:
    params = SNAIL(small_encoder(CLASSIFICATION), SNAILHyper()).init(5, torch.Generator())
    sizes = [
        (len(params[f"attention{i}.key.bias"]), len(params[f"attention{i}.value.bias"]))
        for i in (1, 2, 3)
    ]
    assert sizes == [(64, 32), (256, 128), (512, 256)]
    assert params["tc2_4.gate.weight"].shape == (128, 24 + 5 + 32 + 640 + 128 + 512, 2)
    assert "tc2_5.gate.weight" not in params


@pytest.mark.parametrize(("name", "value"), [("filters", 0), ("key_size", 1), ("dilations", 0)])
def test_impossible_sizes_are_refused(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}, but must be at least"):
        SNAILHyper(**{name: value})
