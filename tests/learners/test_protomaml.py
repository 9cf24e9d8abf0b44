"""Proto-MAML against prototypical networks, MAML, and its algorithm by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.protomaml import ProtoMAML, ProtoMAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

LEARNED = RateVector("learned", "layer", ((0.01, 0.02, 0.03), (0.04, 0.02, 0.01)))


class TestProtoMAML(LearnerTestCase):
    learner = ProtoMAML
    hyper = ProtoMAMLHyper(inner_steps=2, inner_lr=LEARNED)
    label_symmetric = True


class TestFirstOrderProtoMAML(LearnerTestCase):
    learner = ProtoMAML
    hyper = ProtoMAMLHyper(inner_steps=2, order="first")
    label_symmetric = True
    exact_gradient = False


def scene(order: str = "second") -> tuple[ProtoMAML, Params, Task]:
    hyper = ProtoMAMLHyper(inner_steps=2, inner_lr=LEARNED, order=order)
    learner = ProtoMAML(small_encoder(CLASSIFICATION), hyper)
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(CLASSIFICATION)


def features(learner: ProtoMAML, weights: Params, x: Tensor) -> Tensor:
    encoder = {n[8:]: v for n, v in weights.items() if n.startswith("encoder.")}
    z: Tensor = functional_call(learner.encoder.module, encoder, (x,))
    return z


def head_by_hand(z: Tensor, y: Tensor, ways: int) -> tuple[Tensor, Tensor]:
    centres = [z[y == k].mean(0) for k in range(ways)]
    return torch.stack([2 * c for c in centres]), torch.stack([-(c @ c) for c in centres])


def by_hand(learner: ProtoMAML, params: Params, batch: Task, *, first_order: bool) -> Params:
    """``torch.autograd`` through steps on a list of weights that ends with a head of prototypes."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    column = {"encoder.conv1": 0, "encoder.conv2": 1, "head": 2}
    losses = []
    for task in batch.unbind():
        fast = {n: v for n, v in leaves.items() if n != "inner_lr"}
        z = features(learner, fast, task.support_x)
        # Copies of the encoder, so that the inner gradient doesn't go through the prototypes.
        fast = {name: value.clone() for name, value in fast.items()}
        fast["head.weight"], fast["head.bias"] = head_by_hand(z, task.support_y, 3)
        for rates in leaves["inner_lr"]:
            z = features(learner, fast, task.support_x)
            logits = z @ fast["head.weight"].T + fast["head.bias"]
            loss = F.cross_entropy(logits, task.support_y)
            grads = torch.autograd.grad(
                loss, list(fast.values()), create_graph=not first_order, retain_graph=True
            )
            steps = zip(fast.items(), grads, strict=True)
            fast = {
                n: v - rates[next(c for p, c in column.items() if n.startswith(p))] * g
                for (n, v), g in steps
            }
        z = features(learner, fast, task.query_x)
        losses.append(F.cross_entropy(z @ fast["head.weight"].T + fast["head.bias"], task.query_y))
    grads = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    return dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_algorithm_by_hand(order: str, strategy: str) -> None:
    learner, params, batch = scene(order)
    grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy)
    expected = by_hand(learner, params, batch, first_order=order == "first")
    assert expected["inner_lr"].abs().min() > 0
    torch.testing.assert_close(grads, expected, rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("ways", [2, 3, 5])
def test_rates_of_zero_leave_a_prototypical_network(ways: int) -> None:
    """Logits differ by ‖f(x)‖², the same for all classes; so the loss and its gradient agree."""
    learner, params, _ = scene()
    params["inner_lr"] = torch.zeros_like(params["inner_lr"])
    batch = small_tasks(CLASSIFICATION, ways=ways, shots=3)
    protonet = ProtoNet(learner.encoder, ProtoNetHyper())
    theirs = {n: v for n, v in params.items() if n != "inner_lr"}
    theirs["log_scale"] = torch.zeros((), dtype=torch.float64)
    task = next(batch.unbind())
    gap = predictions(learner, params, task) - predictions(protonet, theirs, task)
    squares = features(learner, params, task.query_x).square().sum(1, keepdim=True)
    torch.testing.assert_close(gap, squares.expand_as(gap))
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop")
    expected, same = meta_gradient(protonet, theirs, batch=batch, strategy="loop")
    torch.testing.assert_close(metrics, same)
    grads.pop("inner_lr")
    torch.testing.assert_close(grads, expected, rtol=1e-7, atol=1e-10)


def test_after_its_start_it_is_maml() -> None:
    """Unequal shots, and any order of the labels."""
    learner, params, batch = scene()
    task = next(batch.unbind())
    task = replace(task, support_y=torch.tensor([2, 0, 1, 0, 0, 2]))
    weight, bias = head_by_hand(features(learner, params, task.support_x), task.support_y, 3)
    maml = MAML(learner.encoder, MAMLHyper(inner_steps=2, inner_lr=LEARNED))
    expected = predictions(maml, params | {"head.weight": weight, "head.bias": bias}, task)
    torch.testing.assert_close(predictions(learner, params, task), expected)


def test_no_head_is_learned_but_has_rates() -> None:
    learner, params, _ = scene()
    assert not any(name.startswith("head") for name in params)
    assert params["inner_lr"].shape == (2, 3)
    searched = RateVector("searched", "parameter", ((0.1,),))
    other = replace(learner, hyper=replace(learner.hyper, inner_lr=searched))
    start = other.init(3, torch.Generator())
    assert start["inner_lr"].shape == (2, 10)
    assert other.learned(start) == start.keys() - {"inner_lr"}


def test_regression_is_refused() -> None:
    with pytest.raises(ValueError, match="ProtoMAML does classification"):
        ProtoMAML(small_encoder(REGRESSION), ProtoMAMLHyper(), REGRESSION)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"inner_steps": 0}, "inner_steps is 0"), ({"order": "third"}, "order is 'third'")],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ProtoMAMLHyper(**wrong)  # type: ignore[arg-type]
