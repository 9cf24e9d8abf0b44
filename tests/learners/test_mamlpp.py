"""MAML++ against MAML, the reference code's formulas, and each remedy written out by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autometa.engine import meta_gradient
from autometa.engine.train import TrainState, meta_train
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder, Moment, Params
from autometa.learners.batch_norms import batch_norms, watched
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.mamlpp import MAMLPP, MAMLPPHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

STEPS = 2
NORMS = ("conv1.1", "conv2.1")
OFF = {
    "learned_rates": False,
    "multi_step_loss": False,
    "order_annealing": False,
    "running_statistics": False,
    "per_step_affine": False,
}
RATES = RateVector("fixed", "scalar", ((0.15,), (0.3,)))


class TestMAMLPP(LearnerTestCase):
    learner = MAMLPP
    hyper = MAMLPPHyper(inner_steps=STEPS, first_order_share=0.25, multi_step_share=0.5)


class TestMAMLPPWithoutRunningStatistics(LearnerTestCase):
    learner = MAMLPP
    hyper = MAMLPPHyper(inner_steps=1, running_statistics=False, first_order_share=0.25)


def scene(**hyper: Any) -> tuple[MAMLPP, Params, Task]:
    """Meta-parameters that differ in every step, and a batch of tasks."""
    hyper = {"inner_steps": STEPS, "inner_lr": RATES, **hyper}
    learner = MAMLPP(small_encoder(CLASSIFICATION), MAMLPPHyper(**hyper))
    generator = torch.Generator().manual_seed(0)
    params = {n: v.double() for n, v in learner.init(3, generator).items()}
    for name, value in params.items():
        if name.startswith(("affine.", "running.")):
            noise = torch.rand(value.shape, generator=generator, dtype=value.dtype)
            params[name] = value + noise / 2
    return learner, params, small_tasks(CLASSIFICATION)


def alone(*switches: str) -> dict[str, Any]:
    return OFF | dict.fromkeys(switches, True)


def network(weights: Params, x: Tensor, given: Params | None = None) -> tuple[Tensor, Params]:
    """The small encoder and the head, written out, and the statistics on the way."""
    seen = {}
    for block in ("conv1", "conv2"):
        conv = f"encoder.{block}.0"
        x = F.conv2d(x, weights[f"{conv}.weight"], weights[f"{conv}.bias"], padding=1)
        norm = f"{block}.1"
        seen[f"{norm}.mean"] = x.mean((0, 2, 3)).detach()
        seen[f"{norm}.variance"] = x.var((0, 2, 3), unbiased=True).detach()
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        if given is not None:
            mean, variance = given[f"{norm}.mean"], given[f"{norm}.variance"]
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        scale, shift = weights[f"encoder.{norm}.weight"], weights[f"encoder.{norm}.bias"]
        x = F.max_pool2d(F.relu(x * scale[:, None, None] + shift[:, None, None]), 2)
    return F.linear(x.flatten(1), weights["head.weight"], weights["head.bias"]), seen


def own_affine(params: Params, step: int) -> Params:
    return {
        f"encoder.{name.removeprefix('affine.')}": value[step]
        for name, value in params.items()
        if name.startswith("affine.")
    }


def running_of(params: Params, step: int) -> Params | None:
    """The statistics of a step, or none without BNRS."""
    running = {n: v[step] for n, v in params.items() if n.startswith("running.")}
    return {n.removeprefix("running."): v for n, v in running.items()} or None


def rate_of(name: str, rates: Tensor) -> Tensor:
    """The entry of ``rates`` [1 or 3] for a weight of conv1, conv2 or the head."""
    if len(rates) == 1:
        return rates[0]
    return rates[next(i for i, layer in enumerate(("conv1", "conv2", "head")) if layer in name)]


def by_hand(
    learner: MAMLPP, params: Params, task: Task, importance: Sequence[float], first_order: bool
) -> tuple[Params, Params]:
    """Gradient and observed statistics of a task, with ``torch.autograd`` and Python dicts."""
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    weights = {n: v for n, v in leaves.items() if n.startswith(("encoder.", "head."))}
    total, observed = torch.zeros((), dtype=torch.float64), []
    for step in range(STEPS):
        own = own_affine(leaves, step)
        running = running_of(leaves, step)
        output, seen = network(weights | own, task.support_x, running)
        loss = F.cross_entropy(output, task.support_y)
        grads = torch.autograd.grad(loss, list(weights.values()), create_graph=True)
        if first_order:
            grads = tuple(g.detach() for g in grads)
        rates = leaves["inner_lr"][step]
        weights = {
            n: w - rate_of(n, rates) * g for (n, w), g in zip(weights.items(), grads, strict=True)
        }
        passes = [seen]
        if importance[step]:
            output, late = network(weights | own, task.query_x, running)
            total = total + importance[step] * F.cross_entropy(output, task.query_y)
            passes.append(late)
        observed.append({n: sum(p[n] for p in passes) / len(passes) for n in seen})
    names = sorted(learner.learned(params))
    found = torch.autograd.grad(total, [leaves[name] for name in names])
    statistics = {n: torch.stack([each[n] for each in observed]) for n in observed[0]}
    return dict(zip(names, found, strict=True)), statistics


CASES: dict[str, tuple[dict[str, Any], float, list[float], bool]] = {
    "rates": (alone("learned_rates"), 0.0, [0, 1], False),
    "multi-step": (alone("multi_step_loss"), 0.04, [0.3, 0.7], False),
    "multi-step over": (alone("multi_step_loss"), 0.1, [0, 1], False),
    "first order": (alone("order_annealing"), 0.3, [0, 1], True),
    "second order": (alone("order_annealing"), 0.4, [0, 1], False),
    "statistics": (alone("running_statistics"), 0.0, [0, 1], False),
    "affine": (alone("per_step_affine"), 0.0, [0, 1], False),
    "affine in first order": (alone("per_step_affine", "order_annealing"), 0.0, [0, 1], True),
    "all at the start": ({}, 0.0, [0.5, 0.5], True),
    "all at the end": ({}, 0.9, [0, 1], False),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_remedy_by_hand(case: str, strategy: str) -> None:
    hyper, progress, importance, first_order = CASES[case]
    learner, params, batch = scene(**hyper)
    moment = Moment(progress, torch.zeros(len(batch.query_y), 0))
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
    found = [by_hand(learner, params, each, importance, first_order) for each in batch.unbind()]
    expected, observed = (
        {n: torch.stack([r[i][n] for r in found]).mean(0) for n in found[0][i]} for i in (0, 1)
    )
    torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-10)
    assert all(g.abs().max() > 0 for g in grads.values())
    seen = {n.removeprefix("observed."): v for n, v in metrics.items() if "observed" in n}
    wanted = observed if learner.hyper.running_statistics else {}
    torch.testing.assert_close(seen, wanted, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("mode", ["fixed", "learned"])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_with_all_switches_off_it_is_maml_to_the_bit(
    problem: str, mode: str, strategy: str
) -> None:
    inner = {"inner_steps": STEPS, "inner_lr": replace(RATES, mode=mode)}
    maml = MAML(small_encoder(problem), MAMLHyper(**inner), problem)
    plain = MAMLPP(small_encoder(problem), MAMLPPHyper(**inner, **OFF), problem)
    start = maml.init(3, torch.Generator().manual_seed(0))
    again = plain.init(3, torch.Generator().manual_seed(0))
    assert start.keys() == again.keys()
    assert all(torch.equal(start[name], again[name]) for name in start)
    params = {name: value.double() for name, value in start.items()}
    batch = small_tasks(problem)
    expected, told = meta_gradient(maml, params, batch=batch, strategy=strategy)
    actual, metrics = meta_gradient(plain, params, batch=batch, strategy=strategy)
    assert expected.keys() == actual.keys()
    assert all(torch.equal(expected[name], actual[name]) for name in expected)
    assert told == metrics
    task = next(batch.unbind())
    assert torch.equal(predictions(maml, params, task), predictions(plain, params, task))


def test_order_annealing_is_first_order_maml_and_then_maml_to_the_bit() -> None:
    learner, params, batch = scene(**alone("order_annealing"))
    for progress, order in ((0.0, "first"), (0.333, "first"), (1 / 3, "second"), (0.9, "second")):
        hyper = MAMLHyper(inner_steps=STEPS, inner_lr=RATES, order=order)
        maml = MAML(learner.encoder, hyper)
        moment = Moment(progress, torch.zeros(len(batch.query_y), 0))
        actual, _ = meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)
        expected, _ = meta_gradient(maml, params, batch=batch, strategy="loop")
        assert all(torch.equal(expected[name], actual[name]) for name in expected)


def reference_importance(steps: int, epoch: int, epochs: int) -> np.ndarray:
    """``get_per_step_loss_importance_vector`` of the authors' few_shot_learning_system.py."""
    weights = np.ones(steps) / steps
    decay = 1.0 / steps / epochs
    least = 0.03 / steps
    for i in range(steps - 1):
        weights[i] = max(weights[i] - epoch * decay, least)
    last = weights[-1] + epoch * (steps - 1) * decay
    weights[-1] = min(last, 1.0 - (steps - 1) * least)
    return weights


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_importance_of_the_steps_is_that_of_the_reference_code(steps: int) -> None:
    learner = MAMLPP(small_encoder(CLASSIFICATION), MAMLPPHyper(inner_steps=steps))
    for epoch in range(10):
        expected = reference_importance(steps, epoch, 10)
        np.testing.assert_allclose(learner.importance(epoch / 100), expected, rtol=1e-12)
    for progress in (0.0, 0.0995):  # the second one below the least
        assert sum(learner.importance(progress)) == pytest.approx(1)
    assert learner.importance(0.0) == pytest.approx([1 / steps] * steps)
    for progress in (0.1, 0.5, 0.99):
        assert learner.importance(progress) == [0.0] * (steps - 1) + [1.0]


def test_running_statistics_are_a_moving_average_of_what_training_saw() -> None:
    learner, params, batch = scene(**alone("running_statistics"))
    hyper = replace(learner.hyper, meta_batch=3)
    learner = replace(learner, hyper=hyper)

    class Source:
        def sample(self, tasks: int, generator: torch.Generator) -> Task:
            return batch

    state = TrainState.start(learner, params, torch.Generator().manual_seed(0))
    mine = {name: params[f"running.{name}"] for name in statistics_names()}
    weights = dict(params)
    for _ in meta_train(learner, state, source=Source(), iterations=3, strategy="loop"):
        seen = [by_hand(learner, weights, each, [0, 1], False)[1] for each in batch.unbind()]
        for name, old in mine.items():
            new = sum(each[name] for each in seen) / len(seen)
            mine[name] = 0.9 * old + 0.1 * new
        weights = {name: value.detach().clone() for name, value in state.params.items()}
    for name, expected in mine.items():
        torch.testing.assert_close(weights[f"running.{name}"], expected, rtol=1e-9, atol=1e-12)
        assert not torch.equal(weights[f"running.{name}"], params[f"running.{name}"])


def statistics_names() -> list[str]:
    return [f"{norm}.{part}" for norm in NORMS for part in ("mean", "variance")]


@pytest.mark.parametrize("switches", [{}, alone("running_statistics")], ids=["all", "alone"])
def test_evaluation_normalises_by_the_running_statistics_of_each_step(
    switches: dict[str, Any],
) -> None:
    learner, params, batch = scene(**switches)
    task = next(batch.unbind())
    weights = {n: v for n, v in params.items() if n.startswith(("encoder.", "head."))}
    for step in range(STEPS):
        given = running_of(params, step)
        own = own_affine(params, step)
        leaves = {name: value.clone().requires_grad_() for name, value in weights.items()}
        output, _ = network(leaves | own, task.support_x, given)
        loss = F.cross_entropy(output, task.support_y)
        grads = torch.autograd.grad(loss, list(leaves.values()))
        weights = {
            n: w - rate_of(n, params["inner_lr"][step]) * g
            for (n, w), g in zip(weights.items(), grads, strict=True)
        }
    expected, _ = network(weights | own, task.query_x, given)
    actual = predictions(learner, params, task)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)
    single = predictions(learner, params, replace(task, query_x=task.query_x[:1]))
    torch.testing.assert_close(single, actual[:1])  # queries don't share statistics


def test_evaluation_without_them_normalises_by_the_batch() -> None:
    learner, params, batch = scene(**alone("per_step_affine"))
    task = next(batch.unbind())
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    assert not any("conv1.1" in name for name in fast)
    expected, _ = network(fast | own_affine(params, STEPS - 1), task.query_x)
    torch.testing.assert_close(learner.predict(params, fast, task.query_x), expected)


def test_each_switch_has_its_meta_parameters() -> None:
    _, plain, _ = scene(**OFF)
    assert plain["inner_lr"].shape == (STEPS, 1)
    learner, params, _ = scene()
    assert params["inner_lr"].shape == (STEPS, 3)
    assert torch.equal(params["inner_lr"][:, 1].float(), torch.tensor([0.15, 0.3]))
    for norm in NORMS:
        assert {f"encoder.{norm}.weight", f"encoder.{norm}.bias"}.isdisjoint(params)
        assert params[f"affine.{norm}.weight"].shape == (STEPS, 6)
        fresh = learner.init(3, torch.Generator().manual_seed(0))
        assert (fresh[f"affine.{norm}.weight"] == 1).all()
        assert (fresh[f"running.{norm}.mean"] == 0).all()
        assert (fresh[f"running.{norm}.variance"] == 1).all()
    learned = learner.learned(params)
    assert {n for n in params if n not in learned} == {f"running.{n}" for n in statistics_names()}
    assert scene(**OFF)[0].learned(plain) == plain.keys() - {"inner_lr"}


def test_a_network_without_batch_norms_has_nothing_of_theirs() -> None:
    learner = MAMLPP(small_encoder(REGRESSION), MAMLPPHyper(), REGRESSION)
    params = learner.init(1, torch.Generator().manual_seed(0))
    assert not [name for name in params if name.startswith(("affine.", "running."))]


def test_batch_norms_are_found_by_class_and_watched_only_for_a_while() -> None:
    class Own(nn.BatchNorm2d):
        pass

    layers = [nn.BatchNorm2d(2, track_running_stats=False), nn.GroupNorm(1, 2)]
    module = nn.Sequential(
        *layers,
        nn.Sequential(Own(2, track_running_stats=False)),
        nn.BatchNorm2d(2, affine=False),
    )
    assert list(batch_norms(module)) == ["0", "2.0"]
    x = torch.randn(4, 2, 3, 3, generator=torch.Generator().manual_seed(0))
    before = module(x)
    given = {"0.mean": torch.tensor([1.0, 2.0]), "0.variance": torch.tensor([3.0, 4.0])}
    alone = nn.Sequential(layers[0])
    with watched(alone, given) as seen:
        actual = alone(x)
    expected = F.batch_norm(x, given["0.mean"], given["0.variance"], training=False)
    torch.testing.assert_close(actual, expected)
    torch.testing.assert_close(seen["0.mean"], x.mean((0, 2, 3)))
    torch.testing.assert_close(seen["0.variance"], x.var((0, 2, 3)))
    assert torch.equal(module(x), before)


def test_defaults_are_the_published_ones() -> None:
    hyper = MAMLPPHyper()
    assert all(getattr(hyper, name) for name in OFF)
    assert (hyper.inner_steps, hyper.meta_lr, hyper.meta_schedule) == (5, 1e-3, "cosine")
    assert hyper.inner_lr.values == ((0.1,),)
    assert hyper.multi_step_share == 10 / 100
    assert hyper.first_order_share == 50 / 150


def test_other_ways_are_refused_in_training_too() -> None:
    learner, params, _ = scene()
    task = next(small_tasks(CLASSIFICATION, ways=4).unbind())
    with pytest.raises(ValueError, match="the task has 4 ways, but this head was trained for 3"):
        learner.meta_grad(params, task)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"inner_steps": 0}, "inner_steps is 0"),
        ({"multi_step_share": 0.0}, "multi_step_share is 0.0"),
        ({"first_order_share": 1.5}, "first_order_share is 1.5"),
        ({"meta_schedule": "linear"}, "meta_schedule is 'linear'"),
    ],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MAMLPPHyper(**wrong)


def test_rates_of_other_groups_keep_them() -> None:
    vector = RateVector("searched", "parameter", ((0.1,),))
    encoder = Encoder(small_encoder(CLASSIFICATION).module, 24)
    learner = MAMLPP(encoder, MAMLPPHyper(inner_lr=vector))
    assert learner.rates == replace(vector, mode="learned")
    assert learner.init(3, torch.Generator())["inner_lr"].shape == (5, 10)
