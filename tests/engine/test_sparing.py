"""Inner steps that are computed anew: the gradient of those that were kept, in less memory."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from autometa.engine import split
from autometa.engine.memory import peak_bytes
from autometa.engine.split import SparingGradient
from autometa.engine.strategies import STRATEGIES, meta_gradient
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSIFICATION, Learner
from autometa.testing.learners import random_moment
from autometa.testing.small import TRAIN_CLASSES, WAYS, small_encoder, small_tasks

ABLE = ("maml", "protomaml", "metasgd", "alfa", "platipus", "bmaml")
OPTIONS: dict[str, dict[str, Any]] = {"mamlpp": {"order_annealing": False}}
UNROLLED = (*ABLE, "mamlpp")


def scene(name: str, steps: int = 5, tasks: int = 2) -> dict[str, Any]:
    cls = LEARNERS.load(name)
    chosen: dict[str, Any] = {"inner_steps": steps} | OPTIONS.get(name, {})
    learner: Learner[Any] = cls(
        small_encoder(CLASSIFICATION), cls.hyper_type(**chosen), CLASSIFICATION, TRAIN_CLASSES
    )
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {key: value.double() for key, value in drawn.items()}
    batch = small_tasks(CLASSIFICATION, tasks=tasks)
    moment = random_moment(learner, params, batch)
    return {"learner": learner, "params": params, "batch": batch, "moment": moment}


def recomputing(given: dict[str, Any]) -> dict[str, Any]:
    able = given["learner"].recomputing()
    assert able is not None
    return given | {"learner": able}


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("name", UNROLLED)
def test_the_gradient_is_the_same(name: str, strategy: str) -> None:
    given = scene(name)
    kept = meta_gradient(**given, strategy=strategy)
    anew = meta_gradient(**recomputing(given), strategy=strategy)
    torch.testing.assert_close(anew, kept, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("steps", [2, 3, 7])
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_whatever_the_number_of_steps(strategy: str, steps: int) -> None:
    given = scene("alfa", steps)
    kept = meta_gradient(**given, strategy=strategy)
    anew = meta_gradient(**recomputing(given), strategy=strategy)
    torch.testing.assert_close(anew, kept, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("strategy", ["loop", "vmap"])
@pytest.mark.parametrize("name", ABLE)
def test_memory_grows_with_the_root_of_the_steps(name: str, strategy: str) -> None:
    def peak(given: dict[str, Any]) -> int:
        return peak_bytes(lambda: meta_gradient(**given, strategy=strategy))

    few, many = (scene(name, steps, tasks=1) for steps in (16, 64))
    assert peak(many) > 3.2 * peak(few)
    assert peak(recomputing(many)) < 2.4 * peak(recomputing(few))
    assert peak(recomputing(many)) < 0.4 * peak(many)


class Memory:
    """The real meta-gradient on a device without room for one task's inner steps."""

    def __init__(self) -> None:
        self.tried: list[tuple[int, bool]] = []

    def __call__(self, learner: Learner[Any], *given: Any, **options: Any) -> Any:
        sparing = bool(getattr(learner, "recompute", False))
        self.tried.append((len(options["batch"].query_y), sparing))
        if not sparing:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return meta_gradient(learner, *given, **options)


def test_it_is_done_where_a_single_task_does_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = scene("maml")
    whole = meta_gradient(**given, strategy="loop")
    memory = Memory()
    monkeypatch.setattr(split, "meta_gradient", memory)
    gradient = SparingGradient()
    torch.testing.assert_close(gradient(**given, strategy="loop"), whole)
    assert memory.tried == [(2, False), (1, False), (2, True)]
    memory.tried.clear()
    torch.testing.assert_close(gradient(**given, strategy="loop"), whole)
    assert memory.tried == [(2, True)]  # it has learned


@pytest.mark.parametrize("name", [*ABLE, "mamlpp"])
def test_a_single_step_is_not_worth_it(name: str) -> None:
    assert scene(name, steps=1)["learner"].recomputing() is None


@pytest.mark.parametrize("name", ["fomaml", "protonet", "r2d2", "imaml"])
def test_those_without_steps_to_differentiate_through_say_so(
    name: str,
) -> None:
    cls = LEARNERS.load(name)
    learner = cls(small_encoder(CLASSIFICATION), cls.hyper_type(), CLASSIFICATION, TRAIN_CLASSES)
    assert learner.recomputing() is None
