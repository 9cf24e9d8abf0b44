from __future__ import annotations

import time
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from autometa.episodes import EpisodeShape, stream
from autometa.episodes.images import EpisodeSampler, ImageDataset, ImageSplit
from autometa.errors import DataError


def dataset(split: ImageSplit) -> ImageDataset:
    return ImageDataset("toy", {"train": split, "validation": split, "test": split})


def classes_of(split: ImageSplit, index: torch.Tensor) -> torch.Tensor:
    owner = torch.arange(len(split.counts)).repeat_interleave(torch.tensor(split.counts))
    return owner[index]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_episode_is_valid(data: st.DataObject, numbered) -> None:
    ways = data.draw(st.integers(2, 6))
    shots, queries = data.draw(st.integers(1, 4)), data.draw(st.integers(1, 4))
    size = st.integers(shots + queries, 12)
    counts = tuple(data.draw(st.lists(size, min_size=ways, max_size=12)))
    split = numbered(counts)
    shape = EpisodeShape(ways, shots, queries)
    sampler = dataset(split).source("train", shape)
    index = sampler.indices(7, stream(data.draw(st.integers(0, 99)), "t"))
    assert index.shape == (7, ways, shots + queries)
    for task in index:
        assert len(task.unique()) == task.numel(), "an image twice in one task"
        owner = classes_of(split, task)
        assert (owner == owner[:, :1]).all(), "images of several classes under one label"
        assert len(owner[:, 0].unique()) == ways, "a class twice in one task"


def test_rows_are_class_major_and_hold_what_the_indices_say(numbered) -> None:
    split = numbered((10,) * 6)
    sampler = dataset(split).source("train", EpisodeShape(3, 2, 4))
    batch = sampler.sample(5, stream(1, "t"))
    index = sampler.indices(5, stream(1, "t"))
    shown = (batch.support_x[..., 0, 0, 0] * 255).round().long()
    assert torch.equal(shown, index[..., :2].flatten(1))
    asked = (batch.query_x[..., 0, 0, 0] * 255).round().long()
    assert torch.equal(asked, index[..., 2:].flatten(1))
    assert batch.support_y[0].tolist() == [0, 0, 1, 1, 2, 2]
    assert batch.query_y[4].tolist() == [0] * 4 + [1] * 4 + [2] * 4


def test_classes_labels_and_images_are_uniform(numbered) -> None:
    split = numbered((6, 9, 6, 12, 6, 6, 7, 8))
    tasks, ways = 8000, 4
    sampler = dataset(split).source("train", EpisodeShape(ways, 1, 2))
    index = sampler.indices(tasks, stream(0, "t"))
    owner = classes_of(split, index[..., 0])
    table = torch.stack([(owner == c).sum(0) for c in range(8)]).double()
    expected = tasks / 8
    assert ((table - expected) ** 2 / expected).sum() < 66, "class × label isn't uniform"
    for c, count in enumerate(split.counts):
        shots = index[..., 0][owner == c] - int(split.starts[c])
        seen = torch.bincount(shots, minlength=count).double()
        mean = len(shots) / count
        assert len(seen) == count
        assert ((seen - mean) ** 2 / mean).sum() < count + 5 * (2 * count) ** 0.5


def test_pairs_of_classes_meet_equally_often(numbered) -> None:
    sampler = dataset(numbered((3,) * 5)).source("train", EpisodeShape(2, 1, 1))
    owner = sampler.indices(10_000, stream(0, "t"))[..., 0] // 3
    pairs = Counter(map(tuple, owner.tolist()))
    assert len(pairs) == 20
    assert max(abs(n - 500) for n in pairs.values()) < 5 * 500**0.5


def test_within_groups_every_task_stays_in_one_group(numbered) -> None:
    groups = ("a", "b", "a", "c", "b", "b", "a", "b", "a")
    split = numbered((4,) * 9, groups)
    sampler = dataset(split).source("train", EpisodeShape(3, 1, 2, within_groups=True))
    assert sampler.groups_left_out == ("c",)
    owner = sampler.indices(4000, stream(0, "t"))[..., 0] // 4
    used = [{groups[c] for c in task} for task in owner.tolist()]
    assert all(len(each) == 1 for each in used)
    share = Counter(each.pop() for each in used)
    assert share.keys() == {"a", "b"}
    assert abs(share["a"] - 2000) < 5 * 1000**0.5
    assert len(set(owner.flatten().tolist())) == 8


def test_without_groups_none_is_left_out(numbered) -> None:
    sampler = dataset(numbered((4,) * 3, ("a", "b", "c"))).source("train", EpisodeShape(3, 1, 2))
    assert sampler.groups_left_out == ()


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (EpisodeShape(5, 1, 1), "ways is 5, but toy: the test split has 4 classes"),
        (EpisodeShape(1, 1, 1), "ways is 1.*at least 2"),
        (EpisodeShape(2, 1, 3), "'class2' with 3 images.*1 shots and 3 queries take 4"),
        (EpisodeShape(3, 1, 1, within_groups=True), "largest group.*'a' with 2 classes"),
    ],
)
def test_impossible_shapes_are_refused_at_once(numbered, shape, message) -> None:
    data = dataset(numbered((5, 5, 3, 5), ("a", "a", "b", "c")))
    with pytest.raises(DataError, match=message):
        data.source("test", shape)


@pytest.mark.parametrize("field", ["ways", "shots", "queries"])
def test_a_shape_needs_one_of_everything(field: str) -> None:
    with pytest.raises(DataError, match=f"{field} is 0"):
        EpisodeShape(**{"ways": 2, "shots": 1, "queries": 1} | {field: 0})


def test_an_empty_split_is_refused(numbered) -> None:
    full = numbered((3, 3))
    with pytest.raises(DataError, match="the validation split has no class"):
        ImageDataset("toy", {"train": full, "validation": full.pick([]), "test": full})


def test_picking_keeps_images_with_their_class(numbered) -> None:
    picked = numbered((2, 3, 4)).pick([2, 0])
    assert picked.images[picked.rows, 0, 0, 0].tolist() == [5, 6, 7, 8, 0, 1]
    assert (picked.counts, picked.classes) == ((4, 2), ("class2", "class0"))


def test_fingerprint_sees_pixels_names_and_splits(numbered) -> None:
    a, b = numbered((3, 3)), numbered((3, 4))
    base = ImageDataset("toy", {"train": a, "validation": a, "test": b})
    moved = ImageDataset("toy", {"train": b, "validation": a, "test": a})
    renamed = ImageSplit(a.images, a.counts, ("x", "y"), a.groups)
    inked = ImageSplit(a.images + 1, a.counts, a.classes, a.groups)
    prints = {base.fingerprint, moved.fingerprint}
    for other in (renamed, inked):
        prints.add(ImageDataset("toy", {"train": other, "validation": a, "test": b}).fingerprint)
    assert len(prints) == 4


@pytest.mark.parametrize("within_groups", [False, True])
def test_a_batch_is_quick_even_with_thousands_of_classes(within_groups: bool) -> None:
    classes = 3000
    split = ImageSplit(
        torch.zeros(classes * 20, 1, 28, 28, dtype=torch.uint8),
        (20,) * classes,
        tuple(map(str, range(classes))),
        tuple(str(c // 30) for c in range(classes)),
    )
    sampler = EpisodeSampler(split, EpisodeShape(5, 1, 15, within_groups))
    generator, times = stream(0, "t"), []
    for _ in range(8):
        start = time.perf_counter()
        sampler.sample(32, generator)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.032
