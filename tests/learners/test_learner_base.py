"""What all learners share: initial parameters, gradients, records of hyper-parameters as JSON."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from autometa.learners import LEARNERS
from autometa.learners.base import REGRESSION, Hyper, initial_parameters, prefixed, under
from autometa.learners.gradients import gradient
from autometa.learners.hyper_json import from_json, to_json
from autometa.learners.maml import MAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.testing.small import small_encoder


def test_initial_parameters_are_those_of_the_layers() -> None:
    with torch.device("meta"):
        skeleton = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Linear(4, 2))
    params = initial_parameters(skeleton, torch.Generator().manual_seed(0))
    assert list(params) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    assert params["0.weight"].abs().max() <= 1 / 3
    assert params["1.weight"].abs().max() <= 1 / 2
    assert params["0.weight"].std() > 0.1
    assert skeleton[0].weight.is_meta


def test_a_parameter_that_nobody_initialises_is_refused() -> None:
    class Careless(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.gain = nn.Parameter(torch.ones(2))

    with pytest.raises(ValueError, match=r"parameter '0\.gain' is set by no reset_parameters"):
        initial_parameters(nn.Sequential(Careless()), torch.Generator())


def test_gradient_is_the_same_inside_and_outside_of_transforms() -> None:
    def objective(at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return (at["w"] ** 3).sum(), at["w"].exp()

    points = torch.tensor([[1.0, 2.0], [3.0, -1.0]], dtype=torch.float64)
    unused = torch.ones(3)
    batched = torch.func.vmap(lambda w: gradient(objective, {"w": w, "unused": unused}))(points)
    for i, w in enumerate(points):
        with torch.no_grad():
            grads, value, extra = gradient(objective, {"w": w, "unused": unused})
        torch.testing.assert_close(grads["w"], 3 * w**2)
        torch.testing.assert_close(batched[0]["w"][i], grads["w"])
        torch.testing.assert_close((batched[1][i], batched[2][i]), (value, extra))
        assert torch.equal(grads["unused"], torch.zeros(3))
        assert not any(each.requires_grad for each in (value, extra, w))


@pytest.mark.parametrize("through", [True, False])
def test_an_inner_gradient_is_differentiated_if_asked_to(through: bool) -> None:
    """L(v) = c v³ for v = w: dL/dv = 3 c w², whose derivatives in w and c are 6 c w and 3 w²."""
    w, c = (torch.tensor(value, dtype=torch.float64, requires_grad=True) for value in (2.0, 5.0))

    def objective(at: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        return c * at["v"] ** 3 + w, at["v"]  # w itself is another use, which doesn't count

    grads, value, extra = gradient(objective, {"v": w}, through=through)
    assert grads["v"] == 3 * 5 * 2**2
    assert value == 42
    assert extra == 2
    assert grads["v"].requires_grad == value.requires_grad == extra.requires_grad == through
    if through:
        assert torch.autograd.grad(grads["v"], (w, c)) == (60, 12)


def test_an_inner_gradient_follows_what_else_the_objective_reads() -> None:
    """A head that starts as a constant moves by features that are learned: d/dc of −3 c."""
    c = torch.tensor(5.0, requires_grad=True)
    grads, _, _ = gradient(lambda at: (c * at["v"], ()), {"v": torch.zeros(())}, through=True)
    assert torch.autograd.grad(-3 * grads["v"], c) == (-3,)


def test_prefixed_and_under_are_inverse() -> None:
    params = {"a.weight": torch.ones(1), "weight": torch.zeros(1)}
    whole = prefixed("encoder", params) | {"encoders.x": torch.ones(1), "head": torch.ones(1)}
    assert under("encoder", whole) == params


RECORDS = [
    Hyper(),
    ProtoNetHyper(way_factor=2, learn_scale=True),
    MAMLHyper(inner_lr=RateVector("searched", "layer", ((0.1, 1 / 3), (0.2, 0.3)))),
]


@pytest.mark.parametrize("record", RECORDS, ids=lambda record: type(record).__name__)
def test_json_and_back(record: Hyper) -> None:
    assert from_json(type(record), to_json(record)) == record


def test_json_holds_plain_types() -> None:
    data = to_json(RECORDS[2])
    assert data["inner_lr"]["values"] == [[0.1, 1 / 3], [0.2, 0.3]]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"inner_rate": 1}, "fields of MAMLHyper don't match: unknown: inner_rate"),
        ({"order": None}, "order is None, but must be one of first, second, annealed"),
        ({"inner_lr": 0.1}, "inner_lr is 0.1, but must hold mode, groups and values"),
        (
            {"inner_lr": {"mode": "fixed"}},
            "fields of inner_lr don't match: missing: groups, values",
        ),
    ],
)
def test_json_that_is_no_record_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(MAMLHyper, to_json(MAMLHyper()) | change)


def test_a_field_that_came_after_a_record_has_its_default() -> None:
    data = to_json(MAMLHyper(inner_steps=2, meta_lr=0.5))
    del data["order"], data["inner_lr"]
    assert from_json(MAMLHyper, data) == MAMLHyper(inner_steps=2, meta_lr=0.5)


def test_way_factor_is_one_unless_a_learner_chooses() -> None:
    assert Hyper().way_factor == MAMLHyper().way_factor == 1
    assert ProtoNetHyper(way_factor=4).way_factor == 4


def test_a_problem_that_a_learner_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match="'regression', but ProtoNet does classification"):
        ProtoNet(small_encoder(REGRESSION), ProtoNetHyper(), REGRESSION)


def test_the_registry_finds_them() -> None:
    assert LEARNERS.load("protonet") is ProtoNet
