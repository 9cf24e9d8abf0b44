"""What every meta-learner must satisfy, as a pytest suite to inherit from.

A learner of your own joins in four lines::

    from autometa.testing.learners import LearnerTestCase
    from mypackage import Mine, MineHyper


    class TestMine(LearnerTestCase):
        learner = Mine
        hyper = MineHyper(steps=2)  # left out: its defaults

Everything runs in float64 on tiny tasks, so that tolerances can be tight.
"""

from __future__ import annotations

import json
from collections.abc import Hashable, Iterator
from dataclasses import fields, replace
from typing import Any, ClassVar

import pytest
import torch
from torch import Tensor

from autometa.engine.cohort import evaluate_cohort, train_cohort
from autometa.engine.evaluate import meta_evaluate
from autometa.engine.members import batched, stacked
from autometa.engine.strategies import ON_CPU, meta_gradient
from autometa.engine.train import TrainState, meta_train
from autometa.episodes.task import Task
from autometa.learners.base import CLASSES, REGRESSION, Fast, Hyper, Learner, Moment, Params
from autometa.learners.domains import Choice, Domain, Rates
from autometa.learners.hyper_json import from_json, to_json
from autometa.learners.rates import RateVector
from autometa.testing.small import (
    TRAIN_CLASSES,
    WAYS,
    EasyClasses,
    EasyFamily,
    InDoubles,
    small_encoder,
    small_tasks,
)

PROGRESSES = (0.0, 0.05, 0.4, 0.6, 0.9)
"""Parts of a budget that are done."""


class LearnerTestCase:
    """The contract of a learner.

    Attributes:
        learner: The class under test.
        hyper: Its hyper-parameters, or None for the defaults.
        exact_gradient: Whether :meth:`~autometa.learners.base.Learner.meta_grad` is the derivative
            of the objective (a first-order method's isn't).
        label_symmetric: Whether renaming the classes of a task only renames its logits.
        order_invariant: Whether the order of the support set doesn't matter.
        training_iterations: Meta-iterations after which an easy family is learned; 0 for a
            baseline that isn't meta-trained.
        training_lr: Outer rate of that test.
    """

    learner: ClassVar[type[Learner[Any]]]
    hyper: ClassVar[Hyper | None] = None
    exact_gradient: ClassVar[bool] = True
    label_symmetric: ClassVar[bool] = False
    order_invariant: ClassVar[bool] = True
    training_iterations: ClassVar[int] = 20
    training_lr: ClassVar[float] = 1e-2

    def make(self, problem: str) -> Learner[Any]:
        """The learner on a small encoder."""
        return self.learner(small_encoder(problem), self._hyper(), problem, TRAIN_CLASSES)

    @pytest.fixture(autouse=True)
    def _one_thread(self) -> Iterator[None]:
        """Operations this small only lose by being split over the cores of a busy machine."""
        threads = torch.get_num_threads()
        torch.set_num_threads(1)
        yield
        torch.set_num_threads(threads)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        if "problem" in metafunc.fixturenames:
            metafunc.parametrize("problem", sorted(self.learner.problems))

    def test_every_hyper_parameter_has_a_domain_a_meaning_and_a_default_inside(self) -> None:
        default = self.learner.hyper_type()
        for field in fields(default):
            assert field.metadata["meaning"], f"{field.name} has no meaning"
            domain, value = field.metadata["domain"], getattr(default, field.name)
            assert contains(domain, value), f"{field.name} is {value}, outside of {domain}"

    def test_hyper_parameters_survive_json(self) -> None:
        hyper = self._hyper()
        assert from_json(type(hyper), json.loads(json.dumps(to_json(hyper)))) == hyper

    def test_init_follows_its_generator_alone(self, problem: str) -> None:
        before = torch.random.get_rng_state()
        first, again, other = (
            self.make(problem).init(WAYS, torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
        )
        assert_same(first, again)
        drawn = any(not torch.equal(first[name], other[name]) for name in first)
        assert drawn or not self.make(problem).learned(first)
        assert torch.equal(torch.random.get_rng_state(), before)

    def test_init_gives_finite_tensors_that_own_their_memory(self, problem: str) -> None:
        params = self.make(problem).init(WAYS, torch.Generator().manual_seed(0))
        for name, value in params.items():
            assert value.isfinite().all(), f"{name} isn't finite"
            assert not value.requires_grad, f"{name} requires a gradient"
        assert len({value.data_ptr() for value in params.values()}) == len(params)

    def test_adapt_and_predict_change_nothing_and_repeat_themselves(self, problem: str) -> None:
        learner, params, task = self._scene(problem)
        inputs = {**params, "x": task.support_x, "y": task.support_y, "query": task.query_x}
        before = {name: value.clone() for name, value in inputs.items()}
        fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
        adapted = [value.clone() for value in tensors(fast)]
        first = learner.predict(params, fast, task.query_x)
        second = learner.predict(params, fast, task.query_x)
        assert_same(before, inputs)
        assert all(map(torch.equal, adapted, tensors(fast)))
        assert torch.equal(first, second)
        fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
        assert torch.equal(first, learner.predict(params, fast, task.query_x))

    def test_the_order_of_the_meta_parameters_is_irrelevant(self, problem: str) -> None:
        """A dict that comes from a file is in another order."""
        learner, params, task = self._scene(problem)
        turned = dict(reversed(params.items()))
        expected = predictions(learner, params, task)
        torch.testing.assert_close(predictions(learner, turned, task), expected)

    def test_predictions_have_a_row_a_query(self, problem: str) -> None:
        for shots, queries in ((1, 2), (3, 1)):
            learner, params, task = self._scene(problem, shots=shots, queries=queries)
            prediction = predictions(learner, params, task)
            assert prediction.shape == (len(task.query_y), task.ways)
            assert prediction.dtype == torch.float64

    def test_other_ways_are_served_or_refused(self, problem: str) -> None:
        learner, params, _ = self._scene(problem)
        task = next(small_tasks(problem, ways=WAYS + 1).unbind())
        if learner.any_ways:
            assert predictions(learner, params, task).shape == (len(task.query_y), WAYS + 1)
        else:
            with pytest.raises(ValueError, match="ways"):
                predictions(learner, params, task)

    def test_meta_gradient_is_of_the_learned_parameters(self, problem: str) -> None:
        learner, params, task = self._scene(problem)
        noise = torch.zeros(learner.noise_size(params, task), dtype=torch.float64)
        grads, metrics = learner.meta_grad(params, task, Moment(0.0, noise))
        assert grads.keys() == learner.learned(params) <= params.keys()
        assert all(g.shape == params[name].shape for name, g in grads.items())
        assert metrics["loss"].shape == metrics["score"].shape == ()
        assert learner.absorb(params, metrics).keys() <= params.keys() - grads.keys()

    def test_meta_gradient_leaves_chance_alone(self, problem: str) -> None:
        learner, params, _ = self._scene(problem)
        before = torch.random.get_rng_state()
        batch = small_tasks(problem)
        moment = random_moment(learner, params, batch)
        runs = [
            meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)
            for _ in range(2)
        ]
        assert_same(runs[0][0], runs[1][0])
        assert torch.equal(torch.random.get_rng_state(), before)

    @pytest.mark.parametrize("strategy", ON_CPU)
    def test_strategies_agree(self, problem: str, strategy: str) -> None:
        learner, params, _ = self._scene(problem)
        batch = small_tasks(problem)
        moment = random_moment(learner, params, batch)
        expected = meta_gradient(learner, params, batch=batch, strategy="loop", moment=moment)
        torch.set_num_threads(2 if strategy == "threads" else 1)
        actual = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
        torch.testing.assert_close(actual, expected, rtol=1e-9, atol=1e-9)

    def test_where_the_stage_is_the_same_so_is_the_meta_gradient(self, problem: str) -> None:
        """A recording of one is replayed for the other."""
        learner, params, _ = self._scene(problem)
        batch = small_tasks(problem)
        noise = random_moment(learner, params, batch).noise
        found: dict[Hashable, tuple[Params, dict[str, Tensor]]] = {}
        for progress in PROGRESSES:
            now = Moment(progress, noise)
            actual = meta_gradient(learner, params, batch=batch, strategy="loop", moment=now)
            expected = found.setdefault(learner.stage(progress), actual)
            torch.testing.assert_close(actual, expected, rtol=0, atol=0)

    def test_meta_gradient_is_that_of_finite_differences(self, problem: str) -> None:
        if not self.exact_gradient:
            pytest.skip("the meta-gradient of this learner isn't the derivative of its objective")
        learner, params, _ = self._scene(problem)
        batch = small_tasks(problem)
        moment = random_moment(learner, params, batch)
        for strategy in ("loop", "vmap"):
            grads, _ = meta_gradient(learner, params, batch=batch, strategy=strategy, moment=moment)
            for seed in range(4):
                direction = random_direction(grads, seed)
                slope = sum((grads[name] * step).sum() for name, step in direction.items())
                expected = finite_difference(learner, params, batch, moment, direction)
                torch.testing.assert_close(slope, expected, rtol=1e-5, atol=1e-8)

    def test_the_order_of_the_support_set_is_irrelevant(self, problem: str) -> None:
        if not self.order_invariant:
            pytest.skip("this learner reads its support set in order")
        learner, params, task = self._scene(problem, shots=3)
        order = torch.randperm(len(task.support_y), generator=torch.Generator().manual_seed(0))
        mixed = replace(task, support_x=task.support_x[order], support_y=task.support_y[order])
        expected = predictions(learner, params, task)
        torch.testing.assert_close(predictions(learner, params, mixed), expected)

    def test_renaming_the_classes_renames_the_logits(self, problem: str) -> None:
        if not self.label_symmetric or problem == REGRESSION:
            pytest.skip("the classes of this learner aren't interchangeable")
        learner, params, task = self._scene(problem)
        names = torch.tensor([2, 0, 1])
        renamed = predictions(learner, params, replace(task, support_y=names[task.support_y]))
        torch.testing.assert_close(renamed[:, names], predictions(learner, params, task))

    def test_meta_training_improves_on_an_easy_family(self, problem: str) -> None:
        if not self.training_iterations:
            pytest.skip("this baseline isn't meta-trained")
        learner = self.make(problem)
        changed = replace(learner.hyper, meta_lr=self.training_lr, meta_batch=4)
        learner = replace(learner, hyper=changed)
        generator = torch.Generator().manual_seed(0)
        family = EasyFamily(problem)
        source = EasyClasses() if learner.trains_on == CLASSES else family
        start = learner.init(family.ways, generator)
        state = TrainState.start(learner, start, generator)
        run = meta_train(
            learner, state, source=source, iterations=self.training_iterations, strategy="loop"
        )
        assert len(list(run)) == self.training_iterations
        before, after = (_score(learner, params, family) for params in (start, state.params))
        if problem == REGRESSION:
            assert after < 0.7 * before
        else:
            assert after > max(1.5 / WAYS, before + 0.1)
        task = next(family.sample(1, generator).unbind())
        silence = torch.zeros(learner.noise_size(start, task))
        _, metrics = learner.meta_grad(start, task, Moment(0.0, silence))
        moving = learner.learned(start) | learner.absorb(start, metrics).keys()
        for name in start.keys() - moving:
            assert torch.equal(state.params[name], start[name]), f"{name} isn't learned"

    def test_trials_of_one_program_are_as_by_themselves(self, problem: str) -> None:
        """Those that differ in numbers only: the same parameters and scores, trained at once."""
        learners = [self._varied(problem, position) for position in range(3)]
        family = EasyFamily(problem)
        source = InDoubles(EasyClasses() if learners[0].trains_on == CLASSES else family)
        alone, together = ([_started(each, family.ways) for each in learners] for _ in range(2))
        for learner, state in zip(learners, alone, strict=True):
            if learner.learned(state.params):
                list(meta_train(learner, state, source=source, iterations=2, strategy="loop"))
        if learners[0].learned(together[0].params):
            ends = train_cohort(learners, together, source=source, iterations=2, until=2)
            assert not ends
        for one, other in zip(alone, together, strict=True):
            torch.testing.assert_close(other.params, one.params, rtol=1e-6, atol=1e-8)
        scores = evaluate_cohort(
            learners, stacked(state.params for state in together), **_twelve_tasks(family)
        )
        for learner, state, found in zip(learners, alone, scores, strict=True):
            expected = meta_evaluate(
                learner, state.params, strategy="loop", **_twelve_tasks(family)
            )
            torch.testing.assert_close(found.scores, expected.scores, rtol=1e-5, atol=1e-7)
            assert found.loss == pytest.approx(expected.loss, rel=1e-5)

    def _varied(self, problem: str, position: int) -> Learner[Any]:
        """The learner with other numbers, wherever these may be tensors, and other rates."""
        learner = self.make(problem)
        # Adam makes steps of what is only rounding: gradients of a bias before a normalisation.
        values: dict[str, Any] = {"meta_batch": 2, "meta_optimizer": "sgd"}
        for field in fields(learner.hyper):
            value = getattr(learner.hyper, field.name)
            if field.name in batched(type(learner.hyper)):
                domain = field.metadata["domain"]
                values[field.name] = value + 0.1 * position * (domain.high - value)
            elif isinstance(value, RateVector):
                rates = tuple(tuple(r / (1 + position) for r in row) for row in value.values)
                values[field.name] = replace(value, values=rates)
        return replace(learner, hyper=replace(learner.hyper, **values))

    def _hyper(self) -> Hyper:
        return self.learner.hyper_type() if self.hyper is None else self.hyper

    def _scene(
        self, problem: str, *, shots: int = 2, queries: int = 2
    ) -> tuple[Learner[Any], Params, Task]:
        learner = self.make(problem)
        task = next(small_tasks(problem, shots=shots, queries=queries).unbind())
        params = learner.init(task.ways, torch.Generator().manual_seed(0))
        return learner, {name: value.double() for name, value in params.items()}, task


def _started(learner: Learner[Any], ways: int) -> TrainState:
    params = learner.init(ways, torch.Generator().manual_seed(0))
    doubles = {name: value.double() for name, value in params.items()}
    return TrainState.start(learner, doubles, torch.Generator().manual_seed(1))


def _twelve_tasks(family: EasyFamily) -> dict[str, Any]:
    generator = torch.Generator().manual_seed(2)
    return {"source": InDoubles(family), "tasks": 12, "generator": generator, "batch": 8}


def predictions(learner: Learner[Any], params: Params, task: Task) -> Tensor:
    """Logits or means of the queries, after adapting."""
    fast = learner.adapt(params, task.support_x, task.support_y, task.ways)
    return learner.predict(params, fast, task.query_x)


def random_direction(grads: Params, seed: int) -> Params:
    """A step of unit variance in every number of the learned meta-parameters."""
    generator = torch.Generator().manual_seed(seed)
    return {
        name: torch.randn(g.shape, generator=generator, dtype=g.dtype) for name, g in grads.items()
    }


def finite_difference(
    learner: Learner[Any],
    params: Params,
    batch: Task,
    moment: Moment,
    direction: Params,
    step: float = 1e-6,
) -> Tensor:
    """Slope of the mean objective along a direction, by a central difference."""

    def loss(sign: int) -> Tensor:
        moved = {name: params[name] + sign * step * value for name, value in direction.items()}
        losses = [
            learner.objective(params | moved, task, Moment(moment.progress, noise))[0]
            for task, noise in zip(batch.unbind(), moment.noise, strict=True)
        ]
        return torch.stack(losses).mean()

    return (loss(1) - loss(-1)) / (2 * step)


def random_moment(learner: Learner[Any], params: Params, batch: Task) -> Moment:
    """A third of the way through meta-training, with each task's own noise."""
    shape = (len(batch.query_y), learner.noise_size(params, batch))
    generator = torch.Generator().manual_seed(3)
    return Moment(1 / 3, torch.randn(shape, generator=generator, dtype=torch.float64))


def assert_same(expected: Params, actual: Params) -> None:
    """The same names, and the same numbers to the bit."""
    assert expected.keys() == actual.keys()
    for name, value in expected.items():
        assert torch.equal(value, actual[name]), f"{name} differs"


def tensors(fast: Fast) -> Iterator[Tensor]:
    """All tensors of nested dicts and sequences."""
    if isinstance(fast, Tensor):
        yield fast
    elif isinstance(fast, dict | list | tuple):
        for part in fast.values() if isinstance(fast, dict) else fast:
            yield from tensors(part)


def contains(domain: Domain, value: Any) -> bool:
    """Whether a value lies in a domain; a fixed rate vector needs only its numbers to."""
    if isinstance(domain, Choice):
        return value in domain.options
    if isinstance(domain, Rates):
        assert isinstance(value, RateVector)
        rates = [rate for row in value.values for rate in row]
        known = value.mode in (*domain.modes, "fixed") and value.groups in domain.groups
        return known and all(domain.low <= rate <= domain.high for rate in rates)
    return bool(domain.low <= value <= domain.high)


def _score(learner: Learner[Any], params: Params, family: EasyFamily) -> float:
    generator = torch.Generator().manual_seed(1)
    return meta_evaluate(
        learner, params, source=family, tasks=40, generator=generator, batch=8, strategy="loop"
    ).mean
