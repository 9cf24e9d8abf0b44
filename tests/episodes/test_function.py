"""Tasks that a user's function yields: the contract of data sets, and what is refused."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from typing import Any

import cloudpickle
import numpy as np
import pytest
import torch
from torch import Generator, Tensor

from autometa.episodes import stream
from autometa.episodes.dataset import EpisodeShape
from autometa.episodes.function import FunctionDataset, FunctionSource, options_of
from autometa.errors import DataError
from autometa.testing.datasets import DatasetTestCase, tensors

WAYS, SHOTS, QUERIES = 3, 2, 4
SHAPE = EpisodeShape(WAYS, SHOTS, QUERIES)
CLASSES = {"train": range(12), "validation": range(12, 16), "test": range(16, 20)}
CENTRES = torch.arange(20.0)


def images(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
    """Classes differ in brightness, which tells the split as well."""
    while True:
        order = torch.randperm(len(CLASSES[split]), generator=generator)[:WAYS]
        chosen = torch.tensor(CLASSES[split])[order]
        noise = torch.rand(WAYS, SHOTS + QUERIES, 1, 6, 6, generator=generator)
        x = (CENTRES[chosen].view(-1, 1, 1, 1, 1) + noise) / 20
        y = torch.arange(WAYS)[:, None].expand(-1, SHOTS + QUERIES)
        yield (
            x[:, :SHOTS].flatten(0, 1),
            y[:, :SHOTS].flatten(),
            x[:, SHOTS:].flatten(0, 1),
            y[:, SHOTS:].flatten(),
        )


def curves(split: str, generator: Generator) -> list[tuple[np.ndarray[Any, Any], ...]]:
    """One line a call, as a list of NumPy arrays of float64."""
    slope, *x = torch.rand(9, generator=generator).tolist()
    inputs = np.array(x)[:, None]
    return [(inputs[:3], slope * inputs[:3], inputs[3:], slope * inputs[3:])]


class TestImages(DatasetTestCase):
    @pytest.fixture
    def dataset(self) -> Callable[[], FunctionDataset]:
        return lambda: FunctionDataset("images", images)

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        return SHAPE


class TestCurves(DatasetTestCase):
    @pytest.fixture
    def dataset(self) -> Callable[[], FunctionDataset]:
        return lambda: FunctionDataset("curves", curves)

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        return EpisodeShape(ways=1, shots=3, queries=5)


def test_shapes_and_problem_follow_from_the_first_task() -> None:
    labelled, real = FunctionDataset("images", images), FunctionDataset("curves", curves)
    assert (labelled.problem, labelled.shape, labelled.input_shape) == (
        "classification",
        SHAPE,
        (1, 6, 6),
    )
    assert (real.problem, real.shape, real.input_shape) == (
        "regression",
        EpisodeShape(1, 3, 5),
        (1,),
    )


def test_a_batch_is_what_the_function_yields_from_that_generator() -> None:
    batch = FunctionDataset("images", images).source("train", SHAPE).sample(5, stream(1, "x"))
    tasks = images("train", stream(1, "x"))
    for task in batch.unbind():
        assert all(map(torch.equal, tensors(task), next(tasks)))


@pytest.mark.parametrize("split", CLASSES)
def test_the_function_is_asked_for_the_split(split: str) -> None:
    batch = FunctionDataset("images", images).source(split, SHAPE).sample(20, stream(0, "x"))
    seen = {int(20 * x.min()) for x in batch.support_x.flatten(0, 1)}
    assert seen <= set(CLASSES[split])


def test_bytes_are_pixels() -> None:
    def pixels(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
        for sx, sy, qx, qy in images(split, generator):
            yield (255 * sx).to(torch.uint8), sy, (255 * qx).to(torch.uint8), qy

    batch, exact = (
        FunctionDataset("tasks", each).source("train", SHAPE).sample(2, stream(0, "x"))
        for each in (pixels, images)
    )
    assert batch.support_x.dtype == torch.float32
    assert (batch.support_x - exact.support_x).abs().max() <= 1 / 255


def test_training_images_are_augmented_where_that_is_asked_for() -> None:
    data = FunctionDataset("images", images)
    plain = data.source("train", SHAPE).sample(2, stream(0, "x"))
    moved = data.source("train", SHAPE, augment="affine").sample(2, stream(0, "x"))
    assert moved.support_x.shape == plain.support_x.shape
    assert not torch.equal(moved.support_x, plain.support_x)
    with pytest.raises(DataError, match="augment is 'affine', but for inputs of shape"):
        FunctionDataset("curves", curves).source("train", EpisodeShape(1, 3, 5), augment="affine")


def test_the_fingerprint_is_of_the_tasks() -> None:
    def others(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
        for sx, sy, qx, qy in images(split, generator):
            yield sx + (0.001 if split == "test" else 0), sy, qx, qy

    prints = [FunctionDataset("tasks", each).fingerprint for each in (images, images, others)]
    assert prints[0] == prints[1] != prints[2]


def test_it_is_a_data_set_without_options_and_goes_to_other_processes() -> None:
    member = pickle.loads(cloudpickle.dumps(options_of("images", images)))
    assert member().load().fingerprint == FunctionDataset("images", images).fingerprint


def changed(change: Callable[[tuple[Tensor, ...]], Any]) -> Any:
    def tasks(split: str, generator: Generator) -> Iterator[Any]:
        for task in images(split, generator):
            yield change(task)

    return tasks


def fixed(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
    return images(split, stream(0, "always the same"))


def careless(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
    with torch.random.fork_rng(devices=[]):
        own = torch.Generator()
        own.seed()
        yield next(images(split, own))


def one_to_three(task: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return task[0], task[1] + 1, task[2], task[3] + 1


def growing(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
    sx, sy, qx, qy = next(images(split, generator))
    more = 1 if split == "validation" else 0
    yield sx, sy, torch.cat([qx, qx[:more]]), torch.cat([qy, qy[:more]])


WRONG: dict[str, tuple[Any, str]] = {
    "no iterable": (lambda split, generator: 3, "must be yielded, but a int was returned"),
    "nothing": (lambda split, generator: [], "it yielded none"),
    "three parts": (changed(lambda t: t[:3]), "must each be .support_x, support_y"),
    "a tensor": (changed(lambda t: t[0]), "but one is a Tensor"),
    "text": (changed(lambda t: ("a", *t[1:])), "must hold arrays"),
    "too few labels": (changed(lambda t: (t[0], t[1][1:], *t[2:])), "as many targets as inputs"),
    "columns of labels": (changed(lambda t: (t[0], t[1][:, None], *t[2:])), "whole labels"),
    "flat real targets": (
        changed(lambda t: (t[0], t[1] + 0.5, t[2], t[3] + 0.5)),
        r"real targets \[n, D\]",
    ),
    "not finite": (changed(lambda t: (t[0] / 0, *t[1:])), "finite numbers"),
    "other queries": (changed(lambda t: (*t[:2], t[2][..., 1:], t[3])), "inputs .* of one shape"),
    "mixed targets": (
        changed(lambda t: (*t[:3], t[3][:, None] / 2)),
        "targets of one kind",
    ),
    "unknown label": (changed(lambda t: (*t[:3], t[3] + 1)), "0 … 2, but one has 1 … 3"),
    "labels from 1": (changed(one_to_three), r"from 0 on, but the labels of one are \[1, 1"),
    "unbalanced": (
        changed(lambda t: (t[0], torch.tensor([0, 0, 0, 1, 1, 2]), *t[2:])),
        "as many support examples of each class",
    ),
    "unlike splits": (growing, r"validation .* alike, but query_x of one is float32 \[13"),
    "no chance": (fixed, "the same task came 3 times"),
    "foreign chance": (careless, "two equal generators gave two different tasks"),
}


def sources(data: FunctionDataset) -> list[FunctionSource]:
    """Of all splits, as a study's plan asks for them."""
    return [data.source(split, data.shape) for split in CLASSES]


@pytest.mark.parametrize("name", WRONG)
def test_wrong_tasks_are_refused(name: str) -> None:
    function, told = WRONG[name]
    with pytest.raises(DataError, match=told):
        sources(FunctionDataset("mine", function))


def test_a_later_task_that_is_unlike_is_refused() -> None:
    def shrinking(split: str, generator: Generator) -> Iterator[tuple[Tensor, ...]]:
        for number, (sx, sy, qx, qy) in enumerate(images(split, generator)):
            yield (sx, sy, qx, qy) if number < 3 else (sx, sy, qx[1:], qy[1:])

    source = FunctionDataset("mine", shrinking).source("train", SHAPE)
    with pytest.raises(DataError, match=r"query_x of one is float32 \[11"):
        source.sample(4, stream(0, "x"))


def test_other_shapes_than_its_own_and_training_on_classes_are_refused() -> None:
    data = FunctionDataset("images", images)
    with pytest.raises(DataError, match="shots is 1, but tasks of 'images' have 2"):
        data.source("train", EpisodeShape(3, 1, 4))
    with pytest.raises(DataError, match="within_groups is True"):
        data.source("train", EpisodeShape(WAYS, SHOTS, QUERIES, within_groups=True))
    with pytest.raises(DataError, match="choose a learner of episodes"):
        data.batches(10)
