"""Meta-SGD against its update by hand, MAML, and the closed form of linear regression."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from by_hand import Identity
from torch import Tensor
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.metasgd import MetaSGD, MetaSGDHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks


class TestMetaSGD(LearnerTestCase):
    learner = MetaSGD


class TestMetaSGDOfTwoSteps(LearnerTestCase):
    learner = MetaSGD
    hyper = MetaSGDHyper(inner_steps=2, initial_rate=0.1)
    training_iterations = 0


def scene(problem: str, steps: int, *, equal: bool = False) -> tuple[MetaSGD, Params, Task]:
    """Rates of either sign, unless they are to stay equal."""
    learner = MetaSGD(small_encoder(problem), MetaSGDHyper(inner_steps=steps), problem)
    generator = torch.Generator().manual_seed(0)
    params = {n: v.double() for n, v in learner.init(3, generator).items()}
    for name, value in params.items():
        if name.startswith("rates.") and not equal:
            params[name] = 0.2 * torch.randn(value.shape, generator=generator, dtype=value.dtype)
    return learner, params, small_tasks(problem)


def by_hand(learner: MetaSGD, params: Params, batch: Task) -> Params:
    """Equations 2 and 3 with ``torch.autograd``."""
    error = F.cross_entropy if learner.problem == CLASSIFICATION else F.mse_loss
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    names = [name for name in params if not name.startswith("rates.")]

    def loss(weights: Params, x: Tensor, y: Tensor) -> Tensor:
        encoder = {n[8:]: v for n, v in weights.items() if n.startswith("encoder.")}
        z = functional_call(learner.encoder.module, encoder, (x,))
        return error(z @ weights["head.weight"].T + weights["head.bias"], y)

    losses = []
    for task in batch.unbind():
        fast = {name: leaves[name] for name in names}
        for _ in range(learner.hyper.inner_steps):
            support = loss(fast, task.support_x, task.support_y)
            grads = torch.autograd.grad(support, list(fast.values()), create_graph=True)
            fast = {
                n: fast[n] - leaves[f"rates.{n}"] * g for n, g in zip(names, grads, strict=True)
            }
        losses.append(loss(fast, task.query_x, task.query_y))
    grads = torch.autograd.grad(torch.stack(losses).mean(), list(leaves.values()))
    return dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("steps", [1, 2])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_update_by_hand(
    problem: str, steps: int, strategy: str
) -> None:
    learner, params, batch = scene(problem, steps)
    grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy)
    torch.testing.assert_close(grads, by_hand(learner, params, batch), rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("steps", [1, 3])
def test_with_equal_rates_it_is_maml(problem: str, steps: int) -> None:
    """The same gradient of the weights; those of the rates add up to that of MAML's one rate."""
    learner, params, batch = scene(problem, steps, equal=True)
    rates = RateVector("learned", "scalar", ((0.05,),))
    maml = MAML(learner.encoder, MAMLHyper(inner_steps=steps, inner_lr=rates), problem)
    theirs = {n: v.double() for n, v in maml.init(3, torch.Generator().manual_seed(0)).items()}
    grads, metrics = meta_gradient(learner, params, batch=batch, strategy="loop")
    expected, same = meta_gradient(maml, theirs, batch=batch, strategy="loop")
    torch.testing.assert_close(metrics, same)
    total = torch.stack([g.sum() for n, g in grads.items() if n.startswith("rates.")]).sum()
    torch.testing.assert_close(total, expected.pop("inner_lr").sum())
    weights = {n: g for n, g in grads.items() if not n.startswith("rates.")}
    torch.testing.assert_close(weights, expected, rtol=1e-9, atol=1e-12)


def test_linear_regression_has_the_closed_form() -> None:
    """One step: θ' = θ − α ∘ g, so ∇_α L_q = −g ∘ g_q and ∇_θ L_q = (I − H diag α) g_q."""
    rng = torch.Generator().manual_seed(0)
    x, query_x = torch.randn(2, 6, 4, generator=rng, dtype=torch.float64)
    y, query_y = torch.randn(2, 6, 1, generator=rng, dtype=torch.float64)
    learner = MetaSGD(Encoder(Identity(), 4), MetaSGDHyper(), REGRESSION)
    params = {n: v.double() for n, v in learner.init(1, rng).items()}
    alpha = torch.tensor([[0.3], [-0.2], [0.05], [0.6], [0.1]], dtype=torch.float64)
    params |= {"rates.head.weight": alpha[:4].T, "rates.head.bias": alpha[4]}
    grads, _ = learner.meta_grad(params, Task(x, y, query_x, query_y, ways=1))

    def quadratic(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        design = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        return 2 * design.T @ design / len(x), 2 * design.T @ y / len(x)

    (hessian, b), (query_hessian, query_b) = quadratic(x, y), quadratic(query_x, query_y)
    theta = torch.cat([params["head.weight"].T, params["head.bias"][None]])
    g = hessian @ theta - b
    outer = query_hessian @ (theta - alpha * g) - query_b
    through = outer - hessian @ (alpha * outer)
    for prefix, expected in (("", through), ("rates.", -g * outer)):
        actual = [grads[f"{prefix}head.weight"].T, grads[f"{prefix}head.bias"][None]]
        torch.testing.assert_close(torch.cat(actual), expected)


def test_each_number_of_the_weights_has_a_rate_and_all_are_learned() -> None:
    learner = MetaSGD(small_encoder(CLASSIFICATION), MetaSGDHyper(initial_rate=0.02))
    params = learner.init(3, torch.Generator())
    weights = [name for name in params if not name.startswith("rates.")]
    assert len(params) == 2 * len(weights)
    for name in weights:
        torch.testing.assert_close(
            params[f"rates.{name}"], torch.full(params[name].shape, 0.02), rtol=0, atol=0
        )
    assert learner.learned(params) == params.keys()


@pytest.mark.parametrize("wrong", [{"inner_steps": 0}, {"initial_rate": 0.0}])
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object]) -> None:
    ((name, value),) = wrong.items()
    with pytest.raises(ValueError, match=f"{name} is {value}"):
        MetaSGDHyper(**wrong)  # type: ignore[arg-type]
