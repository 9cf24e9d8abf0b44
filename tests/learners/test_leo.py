"""LEO against the method written out with plain autograd, pair by pair and class by class."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.distributions import Normal, kl_divergence

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Moment, Params, under
from autometa.learners.leo import LEO, LEOHyper, divergence
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

LATENTS, FEATURES, WAYS = 4, 24, 3
# γ = 0: what the gradient doesn't see of a stopped term, a finite difference does.
TINY = LEOHyper(
    latents=LATENTS, latent_steps=2, finetune_steps=2, finetune_lr=0.05, encoder_penalty=0.0
)


class TestLEO(LearnerTestCase):
    learner = LEO
    hyper = TINY
    label_symmetric = True
    training_iterations = 15


def scene(*, shots: int = 2, **hyper: object) -> tuple[LEO, Params, Task]:
    learner = LEO(small_encoder(CLASSIFICATION), replace(TINY, **hyper))  # type: ignore[arg-type]
    params = learner.init(WAYS, torch.Generator().manual_seed(0))
    batch = small_tasks(CLASSIFICATION, tasks=2, shots=shots)
    return learner, {name: value.double() for name, value in params.items()}, batch


def embed(learner: LEO, params: Params, x: Tensor) -> Tensor:
    features = learner.encoder(under("encoder", params), x)
    return torch.stack([row / row.norm() for row in features])


def codes_by_hand(params: Params, features: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    """Each pair through the relation network, averaged; means and log standard deviations."""
    inputs = [params["latent.weight"] @ row for row in features]
    classes = []
    for n in range(WAYS):
        outputs = []
        for k in range(len(y)):
            for other in inputs:
                x = torch.cat([inputs[k], other])
                x = (params["relation.fc1.weight"] @ x).clamp_min(0)
                x = (params["relation.fc2.weight"] @ x).clamp_min(0)
                if y[k] == n:
                    outputs.append(params["relation.fc3.weight"] @ x)
        classes.append(torch.stack(outputs).mean(0))
    codes = torch.stack(classes)
    return codes[:, :LATENTS], codes[:, LATENTS:]


def decode_by_hand(params: Params, z: Tensor, draw: Tensor) -> Tensor:
    out = z @ params["decoder.weight"].T
    glorot = (2 / (WAYS + FEATURES)) ** 0.5
    return out[:, :FEATURES] + glorot * out[:, FEATURES:].exp() * draw


def loss_by_hand(weights: Tensor, features: Tensor, y: Tensor) -> Tensor:
    """The paper's Σ [−w_y·x + log Σ_j exp(w_j·x)]."""
    scores = features @ weights.T
    return sum(
        (torch.logsumexp(row, 0) - row[label] for row, label in zip(scores, y, strict=True)),
        torch.zeros((), dtype=scores.dtype),
    )


def objective_by_hand(learner: LEO, params: Params, task: Task, noise: Tensor) -> Tensor:
    hyper = learner.hyper
    features = embed(learner, params, task.support_x)
    y, shots = task.support_y, len(task.support_y) // WAYS
    mean, log_std = codes_by_hand(params, features, y)
    start = z = mean + log_std.exp() * noise[: WAYS * LATENTS].reshape(WAYS, LATENTS)
    draws = noise[WAYS * LATENTS :].reshape(-1, WAYS, FEATURES)
    assert len(draws) == hyper.latent_steps + 1
    for draw in draws[:-1]:
        loss = loss_by_hand(decode_by_hand(params, z, draw), features, y) / shots
        (slope,) = torch.autograd.grad(loss, z, create_graph=True)
        z = z - params["latent_lr"] * slope
    weights = decode_by_hand(params, z, draws[-1])
    for _ in range(hyper.finetune_steps):
        loss = loss_by_hand(weights, features, y) / shots
        (slope,) = torch.autograd.grad(loss, weights, create_graph=True)
        weights = weights - params["finetune_lr"] * slope
    queries = embed(learner, params, task.query_x)
    total = loss_by_hand(weights, queries, task.query_y) / len(task.query_y)
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    total = total + hyper.kl_weight * kl_divergence(Normal(mean, log_std.exp()), prior).mean()
    total = total + hyper.encoder_penalty * F.mse_loss(start, z.detach())
    for name in ("latent", "relation.fc1", "relation.fc2", "relation.fc3", "decoder"):
        total = total + hyper.l2_penalty * params[f"{name}.weight"].pow(2).sum()
    columns = params["decoder.weight"].T
    for i in range(LATENTS):
        for j in range(LATENTS):
            c = F.cosine_similarity(columns[i], columns[j], dim=0)
            total = total + hyper.orthogonality * (c - float(i == j)) ** 2 / LATENTS**2
    return total


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_method_by_hand(strategy: str) -> None:
    """With every term of weight, and through every step."""
    learner, params, batch = scene(
        kl_weight=0.3, encoder_penalty=0.7, l2_penalty=0.01, orthogonality=0.5
    )
    size = learner.noise_size(params, batch)
    noise = torch.randn(2, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    total = torch.stack(
        [
            objective_by_hand(learner, leaves, task, row)
            for task, row in zip(batch.unbind(), noise, strict=True)
        ]
    ).mean()
    expected = torch.autograd.grad(total, list(leaves.values()))
    grads, metrics = meta_gradient(
        learner, params, batch=batch, strategy=strategy, moment=Moment(0.0, noise)
    )
    torch.testing.assert_close(metrics["loss"], total.detach(), rtol=1e-9, atol=0)
    torch.testing.assert_close(
        grads, dict(zip(leaves, expected, strict=True)), rtol=1e-8, atol=1e-10
    )
    own = [g for name, g in grads.items() if not name.startswith("encoder.")]
    assert len(own) == 7
    assert min(g.abs().max() for g in own) > 1e-5


def test_the_penalty_of_the_codes_way_is_a_pull_on_the_encoder_alone() -> None:
    """∂/∂θ γ‖stop(z') − z‖² = 2γ (z − z')·∂z/∂θ, so that the decoder and the rates feel nothing."""
    learner, params, batch = scene(kl_weight=0.0, l2_penalty=0.0, orthogonality=0.0)
    pulled = replace(learner, hyper=replace(learner.hyper, encoder_penalty=1.0))
    without, with_it = (
        meta_gradient(each, params, batch=batch, strategy="loop")[0] for each in (learner, pulled)
    )
    for name in ("decoder.weight", "latent_lr", "finetune_lr"):
        torch.testing.assert_close(with_it[name], without[name], rtol=1e-12, atol=1e-14)
    assert not torch.allclose(with_it["latent.weight"], without["latent.weight"])


def test_without_steps_it_classifies_by_the_decoded_means() -> None:
    learner, params, batch = scene(latent_steps=0, finetune_steps=0)
    task = next(batch.unbind())
    features = embed(learner, params, task.support_x)
    mean, _ = codes_by_hand(params, features, task.support_y)
    weights = mean @ params["decoder.weight"][:FEATURES].T
    expected = embed(learner, params, task.query_x) @ weights.T
    torch.testing.assert_close(predictions(learner, params, task), expected, rtol=1e-9, atol=1e-12)


def test_codes_of_unequal_classes_are_averaged_over_their_own_examples() -> None:
    learner, params, batch = scene(latent_steps=0, finetune_steps=0)
    task = next(batch.unbind())
    y = torch.tensor([2, 0, 0, 0, 1, 0])
    mean, _ = codes_by_hand(params, embed(learner, params, task.support_x), y)
    expected = mean @ params["decoder.weight"][:FEATURES].T
    actual = learner.adapt(params, task.support_x, y, WAYS)
    torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-12)


def test_adapting_descends_the_support_loss() -> None:
    learner, params, batch = scene(latent_steps=0, finetune_steps=0)
    task = next(batch.unbind())
    features = embed(learner, params, task.support_x)
    losses = []
    for latent, finetune in ((0, 0), (2, 0), (6, 0), (6, 6)):
        steps = replace(learner.hyper, latent_steps=latent, finetune_steps=finetune)
        weights = replace(learner, hyper=steps).adapt(params, task.support_x, task.support_y, WAYS)
        losses.append(loss_by_hand(weights, features, task.support_y).item())
    assert losses == sorted(losses, reverse=True)
    assert losses[-1] < 0.95 * losses[0]


def test_the_divergence_is_that_of_two_gaussians() -> None:
    mean, log_std = torch.randn(
        2, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64
    )
    prior = Normal(torch.zeros_like(mean), torch.ones_like(mean))
    expected = kl_divergence(Normal(mean, log_std.exp()), prior).mean()
    torch.testing.assert_close(divergence(mean, log_std), expected)


def test_defaults_are_the_published_ones() -> None:
    hyper = LEOHyper()
    assert (hyper.latents, hyper.latent_steps, hyper.finetune_steps) == (64, 5, 5)
    assert (hyper.latent_lr, hyper.finetune_lr, hyper.meta_batch) == (1.0, 1e-3, 12)
    assert (hyper.kl_weight, hyper.encoder_penalty) == (1e-3, 1e-9)
    assert (hyper.l2_penalty, hyper.orthogonality) == (1e-8, 1e-3)


@pytest.mark.parametrize(
    ("name", "value"), [("latents", 0), ("latent_steps", -1), ("kl_weight", -0.1)]
)
def test_impossible_hyper_parameters_are_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        LEOHyper(**{name: value})  # type: ignore[arg-type]
