"""Infinite mixture prototypes against a branching loop in NumPy, and in their two limits."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Encoder, Params, under
from autometa.learners.imp import IMP, IMPHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

# In these scenes some examples open clusters, and some don't.
SPLITTING = IMPHyper(alpha=0.7, sigma=1.0)


class TestIMP(LearnerTestCase):
    learner = IMP
    hyper = SPLITTING
    label_symmetric = True
    order_invariant = False


class TestIMPWithFixedSigma(LearnerTestCase):
    learner = IMP
    hyper = IMPHyper(learn_sigma=False)
    label_symmetric = True
    order_invariant = False


def scene(*, shots: int = 4, hyper: IMPHyper = SPLITTING) -> tuple[IMP, Params, Task]:
    learner = IMP(small_encoder(CLASSIFICATION), hyper)
    params = learner.init(3, torch.Generator().manual_seed(0))
    task = next(small_tasks(CLASSIFICATION, shots=shots).unbind())
    return learner, {name: value.double() for name, value in params.items()}, task


def embed(learner: IMP, params: Params, x: Tensor) -> np.ndarray:
    return learner.encoder(under("encoder", params), x).numpy()


def clusters_by_hand(
    z: np.ndarray, y: np.ndarray, *, alpha: float, sigma: float
) -> tuple[np.ndarray, np.ndarray, list[float]]:
    """Algorithm 1 with lists that grow; centres, their classes, and how clear each decision was."""
    means = [z[y == k].mean(0) for k in range(3)]
    rho = np.mean([np.var([mean[j] for mean in means], ddof=1) for j in range(z.shape[1])])
    threshold = -2 * sigma * math.log(alpha / (1 + rho / sigma) ** (z.shape[1] / 2))
    centres, labels, margins = list(means), [0, 1, 2], []
    for point, label in zip(z, y, strict=True):
        nearest = min(
            ((point - centre) ** 2).sum()
            for centre, other in zip(centres, labels, strict=True)
            if other == label
        )
        margins.append(nearest / threshold - 1)
        if nearest > threshold:
            centres.append(point)
            labels.append(label)
    shares = np.zeros((len(z), len(centres)))
    for i, (point, label) in enumerate(zip(z, y, strict=True)):
        for c, (centre, other) in enumerate(zip(centres, labels, strict=True)):
            if other == label:
                shares[i, c] = math.exp(-((point - centre) ** 2).sum() / (2 * sigma))
        shares[i] /= shares[i].sum()
    kept = [c for c in range(len(centres)) if shares[:, c].sum() > 1e-3]
    moved = [(shares[:, c, None] * z).sum(0) / shares[:, c].sum() for c in kept]
    return np.stack(moved), np.array(labels)[kept], margins


def logits_by_hand(
    queries: np.ndarray, centres: np.ndarray, labels: np.ndarray, sigma: float
) -> np.ndarray:
    found = np.empty((len(queries), 3))
    for q, query in enumerate(queries):
        for k in range(3):
            distances = [((query - centre) ** 2).sum() for centre in centres[labels == k]]
            found[q, k] = -min(distances) / (2 * sigma)
    return found


@pytest.mark.parametrize("alpha", [1e-3, 0.01, 0.1, 0.3, 0.6])
def test_clusters_and_logits_are_those_of_a_branching_loop(alpha: float) -> None:
    learner, params, task = scene(hyper=IMPHyper(alpha=alpha, sigma=1.0), shots=5)
    order = torch.randperm(15, generator=torch.Generator().manual_seed(2))
    x, y = task.support_x[order], task.support_y[order]
    sigma = params["log_sigma"].exp().item()
    centres, labels, _ = clusters_by_hand(
        embed(learner, params, x), y.numpy(), alpha=alpha, sigma=sigma
    )
    fast = learner.adapt(params, x, y, 3)
    assert fast["member"].sum() == len(labels)
    owner = fast["member"].to(torch.int64).argmax(0)[fast["member"].any(0)]
    np.testing.assert_array_equal(owner, labels)
    actual = fast["centres"][fast["member"].any(0)]
    np.testing.assert_allclose(actual, centres, rtol=1e-9, atol=1e-12)
    expected = logits_by_hand(embed(learner, params, task.query_x), centres, labels, sigma)
    np.testing.assert_allclose(
        learner.predict(params, fast, task.query_x), expected, rtol=1e-9, atol=1e-9
    )


def test_those_loops_open_from_none_to_all_clusters() -> None:
    learner, params, task = scene(shots=5)
    z = embed(learner, params, task.support_x)
    counts = [
        sum(m > 0 for m in clusters_by_hand(z, task.support_y.numpy(), alpha=a, sigma=1.0)[2])
        for a in (1e-3, 0.1, 0.6)
    ]
    assert counts == [0, 5, 15]


def test_the_contract_is_checked_away_from_the_threshold() -> None:
    learner, params, _ = scene()
    opened = []
    for task in small_tasks(CLASSIFICATION).unbind():
        z = embed(learner, params, task.support_x)
        *_, margins = clusters_by_hand(z, task.support_y.numpy(), alpha=0.7, sigma=1.0)
        assert min(abs(margin) for margin in margins) > 1e-2
        opened.append(sum(margin > 0 for margin in margins))
    assert opened == [2, 4, 0]


def test_a_far_threshold_gives_prototypical_networks() -> None:
    learner, params, task = scene(hyper=IMPHyper(alpha=1e-300, sigma=0.5))
    params["log_sigma"] = torch.tensor(0.5, dtype=torch.float64).log()
    protonet = ProtoNet(learner.encoder, ProtoNetHyper())
    zero = {"log_scale": torch.zeros((), dtype=torch.float64)}
    theirs = {name: value for name, value in params.items() if name != "log_sigma"} | zero
    expected = predictions(protonet, theirs, task)
    torch.testing.assert_close(predictions(learner, params, task), expected, rtol=0, atol=1e-12)
    grads, _ = learner.meta_grad(params, task)
    expected_grads, _ = protonet.meta_grad(theirs, task)
    for name in expected_grads:
        torch.testing.assert_close(grads[name], expected_grads[name], rtol=1e-9, atol=1e-12)


def test_with_one_shot_nothing_can_be_split() -> None:
    learner, params, task = scene(shots=1)
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    z = embed(learner, params, task.support_x)
    np.testing.assert_allclose(fast["centres"][:3], z, rtol=1e-12)
    assert fast["member"][:, 3:].sum() == 0


def test_a_threshold_of_nothing_gives_nearest_neighbours() -> None:
    learner, params, task = scene(hyper=IMPHyper(alpha=1e100, sigma=1e-3))
    z, queries = (embed(learner, params, x) for x in (task.support_x, task.query_x))
    nearest = ((queries[:, None] - z[None]) ** 2).sum(-1)
    y = task.support_y.numpy()
    expected = -np.stack([nearest[:, y == k].min(1) for k in range(3)], axis=1)
    scaled = predictions(learner, params, task) * 2 * params["log_sigma"].exp()
    np.testing.assert_allclose(scaled, expected, rtol=1e-6, atol=1e-9)
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    np.testing.assert_allclose(fast["centres"][3:], z, rtol=1e-9)
    assert fast["member"][:, 3:].sum() == len(z)
    assert fast["member"][:, :3].sum() == 0, "the classes' means are empty"


def test_a_class_of_two_modes_is_split_where_prototypical_networks_fail() -> None:
    middle = [(10.0, 0.0), (3.0, 0.0), (-3.0, 0.0), (-10.0, 0.0)]
    support_x = torch.tensor([(x, y + side) for side in (-0.5, 0.5) for x, y in middle])
    support_y = torch.tensor([0, 1, 2, 0] * 2)
    queries, answers = torch.tensor(middle), torch.tensor([0, 1, 2, 0])
    flat = Encoder(nn.Identity(), 2)
    learner = IMP(flat, IMPHyper(alpha=0.1, sigma=1.0))
    params = learner.init(3, torch.Generator())
    fast = learner.adapt(params, support_x, support_y, 3)
    assert fast["member"].sum(1).tolist() == [2, 1, 1]
    centres = fast["centres"][fast["member"][0]]
    torch.testing.assert_close(centres, torch.tensor([[10.0, 0.0], [-10.0, 0.0]]))
    assert learner.predict(params, fast, queries).argmax(1).tolist() == answers.tolist()

    protonet = ProtoNet(flat, ProtoNetHyper())
    start = protonet.init(3, torch.Generator())
    prototypes = protonet.adapt(start, support_x, support_y, 3)
    assert protonet.predict(start, prototypes, queries).argmax(1).tolist() == [1, 1, 2, 2]


def test_sigma_is_learned_only_when_asked() -> None:
    for learn in (False, True):
        learner, params, task = scene(hyper=IMPHyper(learn_sigma=learn))
        assert ("log_sigma" in learner.meta_grad(params, task)[0]) == learn


def test_defaults_are_the_published_ones() -> None:
    hyper = IMPHyper()
    assert (hyper.alpha, hyper.sigma, hyper.learn_sigma) == (0.1, 5.0, True)
    assert (hyper.meta_lr, hyper.meta_batch, hyper.meta_schedule) == (1e-3, 1, "halving")


@pytest.mark.parametrize("name", ["alpha", "sigma"])
def test_impossible_numbers_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is 0"):
        IMPHyper(**{name: 0.0})
