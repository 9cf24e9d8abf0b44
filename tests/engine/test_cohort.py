"""A cohort against its members alone: optimizers, divergence, failure, little memory."""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from autometa.engine import Diverged, TrainState, meta_gradient, meta_train, split
from autometa.engine.cohort import evaluate_cohort, train_cohort
from autometa.engine.members import MemberParts, agreed, check_members, over_members, stacked
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Hyper, Learner, Moment, Params
from autometa.learners.fomaml import FOMAML, FOMAMLHyper
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.rates import RateVector
from autometa.testing.learners import assert_same
from autometa.testing.small import EasyFamily, InDoubles, small_encoder

IMAGES = InDoubles(EasyFamily(CLASSIFICATION))
LINES = InDoubles(EasyFamily(REGRESSION))
TOTAL = 8


def maml(inner: float = 0.1, problem: str = REGRESSION, **hyper: Any) -> MAML:
    rates = RateVector("searched", "layer", ((inner,),))
    given = {"inner_steps": 2, "meta_batch": 3, **hyper}
    return MAML(small_encoder(problem), MAMLHyper(inner_lr=rates, **given), problem)


def start(learner: Learner[Any]) -> TrainState:
    ways = 1 if learner.problem == REGRESSION else 3
    params = learner.init(ways, torch.Generator().manual_seed(0))
    doubles = {name: value.double() for name, value in params.items()}
    return TrainState.start(learner, doubles, torch.Generator().manual_seed(1))


def alone(learner: Learner[Any], until: int = TOTAL) -> TrainState:
    state = start(learner)
    source = LINES if learner.problem == REGRESSION else IMAGES
    for progress in meta_train(learner, state, source=source, iterations=TOTAL, strategy="loop"):
        if progress.iteration == until:
            break
    return state


def together(
    learners: list[Any], states: list[TrainState], until: int = TOTAL, source: Any = LINES
) -> dict[int, Exception]:
    return train_cohort(learners, states, source=source, iterations=TOTAL, until=until)


def assert_alike(state: TrainState, expected: TrainState) -> None:
    assert state.iteration == expected.iteration
    assert torch.equal(state.generator.get_state(), expected.generator.get_state())
    torch.testing.assert_close(state.params, expected.params, rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(
        state.optimizer.state_dict()["state"],
        expected.optimizer.state_dict()["state"],
        rtol=1e-6,
        atol=1e-9,
    )


@pytest.mark.parametrize("decays", [(0.0, 0.0, 0.0), (0.0, 0.01, 0.1)], ids=["plain", "decayed"])
@pytest.mark.parametrize("schedule", ["constant", "cosine"])
@pytest.mark.parametrize("optimizer", ["adam", "adamw", "sgd", "momentum"])
def test_every_outer_optimizer_goes_as_torch_s_own(
    optimizer: str, schedule: str, decays: tuple[float, ...]
) -> None:
    shared = {"meta_optimizer": optimizer, "meta_schedule": schedule}
    learners = [
        maml(0.1 * (i + 1), meta_lr=0.002 * (i + 1), meta_weight_decay=decay, **shared)
        for i, decay in enumerate(decays)
    ]
    states = [start(learner) for learner in learners]
    assert together(learners, states, until=3) == {}
    assert together(learners, states) == {}  # from the states that the first part left
    for learner, state in zip(learners, states, strict=True):
        assert_alike(state, alone(learner))


def test_a_member_goes_on_by_itself() -> None:
    learners = [maml(meta_lr=0.01), maml(meta_lr=0.02)]
    states = [start(learner) for learner in learners]
    together(learners, states, until=4)
    again = TrainState.restore(learners[1], states[1].state_dict())
    list(meta_train(learners[1], again, source=LINES, iterations=TOTAL, strategy="loop"))
    assert_alike(again, alone(learners[1]))


def test_large_gradients_are_clipped_one_member_at_a_time() -> None:
    learners = [maml(1e-3, meta_optimizer="sgd"), maml(2.0, meta_optimizer="sgd")]
    states = [start(learner) for learner in learners]
    together(learners, states, until=1)
    for learner, state in zip(learners, states, strict=True):
        assert_alike(state, alone(learner, until=1))


@pytest.mark.parametrize("others", [1, 2, 5])
def test_a_member_that_diverges_leaves_the_others_as_they_were_to_the_bit(others: int) -> None:
    wild = maml(1e200)
    calm = [maml(0.05 * (i + 1), meta_lr=0.001 * (i + 1)) for i in range(others)]
    with pytest.raises(Diverged) as told:
        alone(wild)
    with_it = [start(learner) for learner in [calm[0], wild, *calm[1:]]]
    ends = together([calm[0], wild, *calm[1:]], with_it)
    assert list(ends) == [1]
    assert isinstance(ends[1], Diverged)
    assert (ends[1].iteration, str(ends[1])) == (told.value.iteration, str(told.value))
    without = [start(learner) for learner in calm]
    assert together(calm, without) == {}
    for left, expected in zip([with_it[0], *with_it[2:]], without, strict=True):
        assert_same(left.params, expected.params)


@dataclass(frozen=True)
class Brittle(FOMAML):
    """Raises an error where a number of its own is above 1, as a matrix without inverse does."""

    hyper_type: ClassVar[type[Hyper]] = FOMAMLHyper

    def meta_grad(self, params: Params, task: Task, moment: Moment = ...) -> Any:  # type: ignore[assignment]
        weight = params["head.bias"]
        torch.linalg.cholesky(torch.eye(2, dtype=weight.dtype) - weight.detach().abs().max() / 5)
        return super().meta_grad(params, task, moment)


def test_a_member_that_raises_leaves_the_others() -> None:
    rates = RateVector("searched", "scalar", ((0.01,),))
    calm, wild = (
        Brittle(small_encoder(REGRESSION), FOMAMLHyper(inner_lr=rates, meta_lr=lr), REGRESSION)
        for lr in (1e-3, 10.0)
    )
    states = [start(wild), start(calm)]
    ends = together([wild, calm], states)
    assert list(ends) == [0]
    assert isinstance(ends[0], torch.linalg.LinAlgError)
    assert_alike(states[1], alone(calm))


def test_all_may_diverge() -> None:
    learners = [maml(1e200), maml(2e201)]
    ends = together(learners, [start(learner) for learner in learners])
    assert sorted(ends) == [0, 1]


def test_scores_of_images_are_those_of_each_alone() -> None:
    from autometa.engine.evaluate import meta_evaluate

    learners = [ProtoNet(small_encoder(CLASSIFICATION), ProtoNetHyper(scale=s)) for s in (1.0, 9.0)]
    states = [start(learner) for learner in learners]
    together(learners, states, source=IMAGES)

    def how() -> dict[str, Any]:
        generator = torch.Generator().manual_seed(3)
        return {"source": IMAGES, "tasks": 7, "generator": generator, "batch": 4}

    found = evaluate_cohort(learners, stacked(state.params for state in states), **how())
    for learner, state, scores in zip(learners, states, found, strict=True):
        expected = meta_evaluate(learner, state.params, strategy="loop", **how())
        assert torch.equal(scores.scores, expected.scores)
        assert scores.loss == pytest.approx(expected.loss)
        assert scores.ece == pytest.approx(expected.ece)


def test_members_in_parts_are_the_same_members() -> None:
    learners = [maml(0.1 * (i + 1)) for i in range(5)]
    params = stacked(start(learner).params for learner in learners)
    sizes: list[int] = []

    def norm(learner: Learner[Any], params: Params) -> Tensor:
        sizes.append(1)
        if len(sizes) < 3:
            raise torch.OutOfMemoryError("as a device says")
        return params["inner_lr"].sum() * torch.ones(2)

    parts = MemberParts()
    found = parts(norm, learners, params)
    assert parts.most == 2
    expected = torch.stack([p.sum() * torch.ones(2) for p in params["inner_lr"]])
    torch.testing.assert_close(found, expected.to(found.dtype))
    sizes.clear()
    with pytest.raises(torch.OutOfMemoryError):
        MemberParts()(norm, learners[:1], {name: value[:1] for name, value in params.items()})


def test_steps_are_computed_again_where_a_task_of_a_member_is_too_much(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    learners = [maml(0.1 * (i + 1), inner_steps=5) for i in range(3)]
    tried: list[tuple[bool, int]] = []

    def short(learner: Any, *given: Any, batch: Task, **options: Any) -> Any:
        tried.append((learner.recompute, len(batch.query_y)))
        if not learner.recompute or len(batch.query_y) > 2:
            raise torch.OutOfMemoryError("as a device says")
        return meta_gradient(learner, *given, batch=batch, **options)

    monkeypatch.setattr(split, "meta_gradient", short)
    states = [start(learner) for learner in learners]
    assert together(learners, states, until=2) == {}
    for learner, state in zip(learners, states, strict=True):
        assert_alike(state, alone(learner, until=2))
    # All members, fewer tasks, fewer members, and last the same with steps done twice; then that.
    kept = [(False, 3), (False, 2), (False, 1), (False, 1), (False, 1)]
    again = [(True, 2), (True, 1)]
    assert tried == [*kept, (True, 3), *again, *again]


def test_members_for_which_nothing_helps_end_with_the_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def never(*_: Any, **__: Any) -> Any:
        raise torch.OutOfMemoryError("as a device says")

    monkeypatch.setattr(split, "meta_gradient", never)
    learners = [maml(0.1), maml(0.2)]
    ends = together(learners, [start(learner) for learner in learners])
    assert sorted(ends) == [0, 1]
    assert all(isinstance(end, torch.OutOfMemoryError) for end in ends.values())


def test_a_number_in_the_formulas_is_each_member_s_own() -> None:
    from autometa.learners.imaml import IMAML, IMAMLHyper

    learners = [
        IMAML(small_encoder(REGRESSION), IMAMLHyper(penalty=p), REGRESSION) for p in (0.2, 5.0)
    ]
    params = stacked(start(learner).params for learner in learners)
    found = over_members(
        lambda learner, _: torch.as_tensor(learner.hyper.penalty), learners, params
    )
    assert found.tolist() == [0.2, 5.0]
    same = over_members(
        lambda learner, _: torch.as_tensor(learner.hyper.inner_lr), learners, params
    )
    assert same.tolist() == pytest.approx([0.1, 0.1])


def test_what_a_cohort_has_to_agree_on() -> None:
    first = maml(0.1, meta_lr=0.1)
    assert agreed(first.hyper) == agreed(maml(0.2, meta_lr=0.2, meta_weight_decay=0.1).hyper)
    check_members([first, maml(0.2)])
    with pytest.raises(ValueError, match="inner_steps is 3 and 2"):
        check_members([first, maml(inner_steps=3)])
    with pytest.raises(ValueError, match="first_order_share"):
        check_members([first, maml(first_order_share=0.5)])
    with pytest.raises(ValueError, match="FOMAML"):
        check_members([first, FOMAML(small_encoder(REGRESSION), FOMAMLHyper(), REGRESSION)])
    states = [start(first), alone(first, until=1)]
    with pytest.raises(ValueError, match="same meta-iteration"):
        together([first, first], states)


def test_states_that_are_not_meant_are_left_alone() -> None:
    learner = maml()
    state, other = start(learner), start(learner)
    before = copy.deepcopy(other.state_dict()["params"])
    together([learner], [state])
    assert_same(other.params, before)
    assert replace(learner) == learner
