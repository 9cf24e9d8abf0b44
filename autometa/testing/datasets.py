"""What every data set must satisfy, as a pytest suite to inherit from.

A data set of your own joins in ten lines::

    import pytest
    from autometa.testing.datasets import ImageDatasetTestCase
    from mypackage.data import Options


    class TestMine(ImageDatasetTestCase):
        @pytest.fixture(scope="class")
        def dataset(self):
            return lambda: Options(root="data/mine").load()

``dataset`` is a factory: a call gives a data set. Inherit from :class:`ImageDatasetTestCase`
where episodes are labelled images, from :class:`DatasetTestCase` for regression. ``shape`` is the
episodes' shape; override it where five classes of three images are too many.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import ClassVar

import pytest
import torch
from torch import Tensor

from autometa.episodes.dataset import Dataset, EpisodeShape
from autometa.episodes.task import SPLITS, Task, stream
from autometa.errors import DataError

Factory = Callable[[], Dataset]
TASKS = 8


class DatasetTestCase:
    """The contract that holds for every problem."""

    @pytest.fixture
    def dataset(self) -> Factory:
        """A factory of the data set under test; every subclass overrides it."""
        raise NotImplementedError("override the fixture `dataset`")

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        """Shape of the episodes that every split can give."""
        return EpisodeShape(ways=5, shots=1, queries=2)

    @pytest.mark.parametrize("split", SPLITS)
    def test_batches_have_shapes_and_types(
        self, dataset: Factory, shape: EpisodeShape, split: str
    ) -> None:
        data = dataset()
        batch = data.source(split, shape).sample(TASKS, stream(0, "test"))
        assert batch.ways == shape.ways
        sizes = ((batch.support_x, shape.shots), (batch.query_x, shape.queries))
        for x, per_class in sizes:
            assert x.shape == (TASKS, shape.ways * per_class, *data.input_shape)
            assert x.dtype == torch.float32
            assert x.isfinite().all()

    def test_same_seed_gives_identical_batch(self, dataset: Factory, shape: EpisodeShape) -> None:
        batches = [
            dataset().source("train", shape).sample(TASKS, stream(3, "test")) for _ in range(2)
        ]
        assert all(map(torch.equal, tensors(batches[0]), tensors(batches[1])))

    def test_other_seed_gives_other_tasks(self, dataset: Factory, shape: EpisodeShape) -> None:
        source = dataset().source("train", shape)
        one, other = (source.sample(TASKS, stream(seed, "test")) for seed in (3, 4))
        assert not torch.equal(one.support_x, other.support_x)

    def test_tasks_of_a_batch_differ(self, dataset: Factory, shape: EpisodeShape) -> None:
        batch = dataset().source("train", shape).sample(TASKS, stream(5, "test"))
        assert not (batch.query_x == batch.query_x[:1]).flatten(1).all(1)[1:].any()

    def test_generator_moves_on(self, dataset: Factory, shape: EpisodeShape) -> None:
        source, generator = dataset().source("train", shape), stream(3, "test")
        one, other = source.sample(TASKS, generator), source.sample(TASKS, generator)
        assert not torch.equal(one.support_x, other.support_x)

    def test_global_random_state_plays_no_part(self, dataset: Factory, shape: EpisodeShape) -> None:
        source, batches = dataset().source("train", shape), []
        with torch.random.fork_rng(devices=[]):
            for seed in (1, 2):
                torch.default_generator.manual_seed(seed)
                before = torch.get_rng_state()
                batches.append(source.sample(TASKS, stream(0, "test")))
                assert torch.equal(before, torch.get_rng_state())
        assert all(map(torch.equal, tensors(batches[0]), tensors(batches[1])))

    def test_training_leaves_the_test_tasks_alone(
        self, dataset: Factory, shape: EpisodeShape
    ) -> None:
        data = dataset()
        expected = data.source("test", shape).sample(TASKS, stream(0, "meta-test"))
        train, test = data.source("train", shape), data.source("test", shape)
        train.sample(TASKS, stream(0, "meta-train"))
        found = test.sample(TASKS, stream(0, "meta-test"))
        assert all(map(torch.equal, tensors(expected), tensors(found)))

    def test_sampling_leaves_the_data_alone(self, dataset: Factory, shape: EpisodeShape) -> None:
        source = dataset().source("train", shape)
        first = source.sample(TASKS, stream(0, "test"))
        expected = [tensor.clone() for tensor in tensors(first)]
        for tensor in tensors(first):
            tensor.zero_()
        again = source.sample(TASKS, stream(0, "test"))
        assert all(map(torch.equal, expected, tensors(again)))

    def test_fingerprint_is_stable(self, dataset: Factory) -> None:
        one, other = dataset().fingerprint, dataset().fingerprint
        assert one == other
        assert len(one) == 64

    def test_summary_has_a_row_a_split(self, dataset: Factory) -> None:
        assert [row["split"] for row in dataset().summary()] == list(SPLITS)

    def test_unknown_names_are_data_errors(self, dataset: Factory, shape: EpisodeShape) -> None:
        with pytest.raises(DataError, match=r"split 'tset'.*'test'"):
            dataset().source("tset", shape)
        with pytest.raises(DataError, match="augment"):
            dataset().source("train", shape, augment="afine")

    def test_too_many_ways_are_a_data_error(self, dataset: Factory, shape: EpisodeShape) -> None:
        with pytest.raises(DataError, match="ways is 1000000"):
            dataset().source("train", replace(shape, ways=1_000_000))


class ImageDatasetTestCase(DatasetTestCase):
    """The contract of labelled images, on top of what holds for every problem."""

    distinct_images: ClassVar[bool] = True
    """False for data in which two images of a class may be equal to the last pixel."""

    @pytest.mark.parametrize("split", SPLITS)
    def test_labels_are_balanced(self, dataset: Factory, shape: EpisodeShape, split: str) -> None:
        batch = dataset().source(split, shape).sample(TASKS, stream(0, "test"))
        for y, per_class in ((batch.support_y, shape.shots), (batch.query_y, shape.queries)):
            assert y.dtype == torch.int64
            expected = torch.arange(shape.ways).repeat_interleave(per_class)
            assert torch.equal(y.cpu(), expected.expand(TASKS, -1))

    def test_values_are_in_the_unit_interval(self, dataset: Factory, shape: EpisodeShape) -> None:
        for augment in ("none", "affine"):
            source = dataset().source("train", shape, augment=augment)
            batch = source.sample(TASKS, stream(0, "test"))
            for x in (batch.support_x, batch.query_x):
                assert x.min() >= 0
                assert 0.1 < x.max() <= 1

    def test_support_and_query_are_disjoint(self, dataset: Factory, shape: EpisodeShape) -> None:
        if not self.distinct_images:
            pytest.skip("images of this data set may be equal, so pixels can't tell")
        # Taking every image but one of the smallest class leaves no room for chance.
        most = replace(shape, queries=smallest_class(dataset(), shape) - shape.shots)
        batch = dataset().source("train", most).sample(TASKS, stream(1, "test"))
        rows = torch.cat([batch.support_x, batch.query_x], 1).flatten(2)
        for task in rows:
            assert len(task.unique(dim=0)) == len(task)

    def test_class_order_is_shuffled(self, dataset: Factory, shape: EpisodeShape) -> None:
        if not self.distinct_images:
            pytest.skip("images of this data set may be equal, so pixels can't tell")
        labels = labels_of_images(dataset(), shape)
        assert any(len(seen) > 1 for seen in labels.values())

    def test_class_splits_are_disjoint(self, dataset: Factory) -> None:
        data = dataset()
        names = [name for split in SPLITS for name in data.classes(split)]
        assert len(names) == len(set(names))
        assert data.train_classes == len(data.classes("train"))

    def test_too_many_queries_are_a_data_error(self, dataset: Factory, shape: EpisodeShape) -> None:
        with pytest.raises(DataError, match="1000000 queries"):
            dataset().source("train", replace(shape, queries=1_000_000))


def tensors(task: Task) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four tensors of a task or task batch."""
    return task.support_x, task.support_y, task.query_x, task.query_y


def smallest_class(dataset: Dataset, shape: EpisodeShape) -> int:
    """Examples that every class of the train split has, up to 32, found by asking for more."""
    for per_class in range(32, shape.per_class, -1):
        try:
            dataset.source("train", replace(shape, queries=per_class - shape.shots))
        except DataError:
            continue
        return per_class
    return shape.per_class


def labels_of_images(dataset: Dataset, shape: EpisodeShape) -> dict[bytes, set[int]]:
    """The labels that each image had in a few hundred tasks."""
    labels: dict[bytes, set[int]] = {}
    source, generator = dataset.source("train", shape), stream(2, "test")
    batch = source.sample(300, generator)
    for x, y in zip(batch.query_x.flatten(0, 1), batch.query_y.flatten(), strict=True):
        labels.setdefault(x.cpu().numpy().tobytes(), set()).add(int(y))
    return labels
