"""ANIL against its algorithm by hand, MAML with a body that stands still, and a closed form."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from autometa.engine import meta_gradient
from autometa.episodes.task import Task
from autometa.learners.anil import ANIL, ANILHyper
from autometa.learners.base import CLASSIFICATION, REGRESSION, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks

PER_PARAMETER = RateVector("learned", "parameter", ((0.3, 0.1), (0.2, 0.4)))


class TestANIL(LearnerTestCase):
    learner = ANIL
    hyper = ANILHyper(inner_steps=2, inner_lr=PER_PARAMETER)


class TestFirstOrderANIL(LearnerTestCase):
    learner = ANIL
    hyper = ANILHyper(inner_steps=2, order="first")
    exact_gradient = False


def scene(problem: str, order: str = "second") -> tuple[ANIL, Params, Task]:
    hyper = ANILHyper(inner_steps=2, inner_lr=PER_PARAMETER, order=order)
    learner = ANIL(small_encoder(problem), hyper, problem)
    params = learner.init(3, torch.Generator().manual_seed(0))
    return learner, {n: v.double() for n, v in params.items()}, small_tasks(problem)


def by_hand(learner: ANIL, params: Params, batch: Task, *, first_order: bool) -> Params:
    """``torch.autograd`` through steps on a weight matrix and a bias."""
    error = F.cross_entropy if learner.problem == CLASSIFICATION else F.mse_loss
    leaves = {name: value.clone().requires_grad_() for name, value in params.items()}
    encoder = {n[8:]: v for n, v in leaves.items() if n.startswith("encoder.")}
    total = torch.zeros((), dtype=torch.float64)
    for task in batch.unbind():
        weight, bias = leaves["head.weight"], leaves["head.bias"]
        for rates in leaves["inner_lr"]:
            z = functional_call(learner.encoder.module, encoder, (task.support_x,))
            loss = error(z @ weight.T + bias, task.support_y)
            grads = torch.autograd.grad(loss, [weight, bias], create_graph=not first_order)
            weight, bias = weight - rates[0] * grads[0], bias - rates[1] * grads[1]
        z = functional_call(learner.encoder.module, encoder, (task.query_x,))
        total = total + error(z @ weight.T + bias, task.query_y)
    grads = torch.autograd.grad(total / len(batch.query_y), list(leaves.values()))
    return dict(zip(leaves, grads, strict=True))


@pytest.mark.parametrize("problem", [CLASSIFICATION, REGRESSION])
@pytest.mark.parametrize("order", ["first", "second"])
@pytest.mark.parametrize("strategy", ["loop", "vmap"])
def test_meta_gradient_is_that_of_the_algorithm_by_hand(
    problem: str, order: str, strategy: str
) -> None:
    learner, params, batch = scene(problem, order)
    grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy)
    expected = by_hand(learner, params, batch, first_order=order == "first")
    assert expected["inner_lr"].abs().min() > 0
    torch.testing.assert_close(grads, expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("order", ["first", "second"])
def test_it_is_maml_whose_body_has_rates_of_zero(order: str) -> None:
    learner, params, batch = scene(CLASSIFICATION, order)
    still = tuple((0.0,) * 8 + row for row in PER_PARAMETER.values)
    hyper = MAMLHyper(
        inner_steps=2, inner_lr=RateVector("learned", "parameter", still), order=order
    )
    maml = MAML(learner.encoder, hyper)
    rates = torch.tensor(still).double()
    rates[:, 8:] = params["inner_lr"]
    theirs, _ = meta_gradient(maml, params | {"inner_lr": rates}, batch=batch, strategy="loop")
    grads, _ = meta_gradient(learner, params, batch=batch, strategy="loop")
    torch.testing.assert_close(grads.pop("inner_lr"), theirs.pop("inner_lr")[:, 8:])
    torch.testing.assert_close(grads, theirs, rtol=1e-9, atol=1e-11)


class Counting(nn.Module):
    """An encoder that counts how often it is run."""

    def __init__(self, body: nn.Module) -> None:
        super().__init__()
        self.body = body
        self.runs = 0

    def forward(self, x: Tensor) -> Tensor:
        self.runs += 1
        return self.body(x)  # type: ignore[no-any-return]


def test_the_encoder_runs_once_a_support_set_and_no_task_changes_its_features() -> None:
    small = small_encoder(CLASSIFICATION)
    module = Counting(small.module)
    hyper = ANILHyper(inner_steps=5)
    learner = ANIL(replace(small, module=module), hyper)
    params = {n: v.double() for n, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    task = next(small_tasks(CLASSIFICATION).unbind())
    before = learner.encoder(
        {n[8:]: v for n, v in params.items() if n.startswith("encoder.")}, task.query_x
    )
    module.runs = 0
    fast = learner.adapt(params, task.support_x, task.support_y, 3)
    assert module.runs == 1
    assert fast.keys() == {"head.weight", "head.bias"}
    logits = learner.predict(params, fast, task.query_x)
    assert module.runs == 2
    torch.testing.assert_close(logits, before @ fast["head.weight"].T + fast["head.bias"])
    assert not torch.allclose(fast["head.weight"], params["head.weight"], atol=1e-3)


def test_regression_of_the_head_has_the_closed_form() -> None:
    """Equal steps on a quadratic loss: θ' = (I − αH)ᵏ θ + α Σ_{j<k} (I − αH)ʲ b."""
    alpha, steps = 0.2, 4
    hyper = ANILHyper(inner_steps=steps, inner_lr=RateVector("fixed", "scalar", ((alpha,),)))
    learner = ANIL(small_encoder(REGRESSION), hyper, REGRESSION)
    params = {n: v.double() for n, v in learner.init(3, torch.Generator().manual_seed(0)).items()}
    params["inner_lr"].fill_(alpha)
    task = next(small_tasks(REGRESSION, shots=8).unbind())
    encoder = {n[8:]: v for n, v in params.items() if n.startswith("encoder.")}

    def design(x: Tensor) -> Tensor:
        z = functional_call(learner.encoder.module, encoder, (x,))
        return torch.cat([z, torch.ones(len(z), 1, dtype=z.dtype)], 1)

    a, y = design(task.support_x), task.support_y
    hessian, b = 2 * a.T @ a / y.numel(), 2 * a.T @ y / y.numel()
    shrink = torch.eye(17, dtype=torch.float64) - alpha * hessian
    powers = [torch.linalg.matrix_power(shrink, k) for k in range(steps + 1)]
    start = torch.cat([params["head.weight"].T, params["head.bias"][None]])
    adapted = powers[steps] @ start + alpha * torch.stack(powers[:steps]).sum(0) @ b
    torch.testing.assert_close(predictions(learner, params, task), design(task.query_x) @ adapted)


def test_a_rate_vector_is_for_the_head_alone() -> None:
    assert ANIL.fast_parameters(["conv1.weight"]) == ["head.weight", "head.bias"]
    for groups, columns in (("scalar", 1), ("layer", 1), ("parameter", 2)):
        hyper = ANILHyper(inner_steps=3, inner_lr=RateVector("searched", groups, ((0.1,),)))
        params = ANIL(small_encoder(CLASSIFICATION), hyper).init(3, torch.Generator())
        assert params["inner_lr"].shape == (3, columns)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [({"inner_steps": 0}, "inner_steps is 0"), ({"order": "third"}, "order is 'third'")],
)
def test_impossible_hyper_parameters_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ANILHyper(**wrong)  # type: ignore[arg-type]
