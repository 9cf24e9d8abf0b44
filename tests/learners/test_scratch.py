"""Training from scratch: the contract, and gradient descent written out."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from autometa.learners.base import REGRESSION
from autometa.learners.rates import RateVector
from autometa.learners.scratch import Scratch, ScratchHyper
from autometa.testing.learners import LearnerTestCase
from autometa.testing.small import small_encoder, small_tasks

HYPER = ScratchHyper(inner_steps=3, inner_lr=RateVector("fixed", "scalar", ((0.1,),)))


class TestScratch(LearnerTestCase):
    learner = Scratch
    hyper = HYPER
    exact_gradient = False
    training_iterations = 0


def test_it_is_gradient_descent_on_the_support_set() -> None:
    learner = Scratch(small_encoder(REGRESSION), HYPER, REGRESSION)
    params = {n: v.double() for n, v in learner.init(1, torch.Generator()).items()}
    params["inner_lr"].fill_(0.1)
    task = next(small_tasks(REGRESSION, ways=1, shots=6).unbind())
    names = [name for name in params if name != "inner_lr"]
    weights = [params[name].clone() for name in names]
    for _ in range(3):
        leaves = [w.detach().requires_grad_() for w in weights]
        hidden = torch.tanh(F.linear(task.support_x, *leaves[:2]))
        hidden = torch.tanh(F.linear(hidden, *leaves[2:4]))
        loss = (F.linear(hidden, *leaves[4:]) - task.support_y).square().mean()
        grads = torch.autograd.grad(loss, leaves)
        weights = [w - 0.1 * g for w, g in zip(weights, grads, strict=True)]
    fast = learner.adapt(params, task.support_x, task.support_y, 1)
    for name, expected in zip(names, weights, strict=True):
        torch.testing.assert_close(fast[name], expected)


def test_nothing_is_learned() -> None:
    learner = Scratch(small_encoder(REGRESSION), HYPER, REGRESSION)
    assert not learner.learned(learner.init(1, torch.Generator()))
