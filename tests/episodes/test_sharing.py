"""Images are in memory once, however many processes read them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from autometa.episodes import EpisodeShape, load, stream
from autometa.episodes.images import ImageDataset, ImageSplit
from autometa.episodes.sampler import ClassBatches, EpisodeSampler
from autometa.episodes.task import SPLITS
from autometa.testing.datasets import tensors

linux = pytest.mark.skipif(not Path("/proc/self/smaps").exists(), reason="needs Linux's /proc")
CLASSES, IMAGES, SIDE = 8, 4, 500

READER = """
import sys
from autometa.episodes import load
images = load("imagefolder", {"root": sys.argv[1], "image_size": 500}).splits["train"].images
print("read", flush=True)
sys.stdin.readline()
print(open("/proc/self/smaps").read())
"""

MAKER = """
import sys, time
import torch
from autometa.episodes.cache import cached
from autometa.episodes.sampler import ImageSplit
def make():
    with open(sys.argv[1], "a") as log:
        log.write("made\\n")
    time.sleep(0.5)
    images = torch.arange(4, dtype=torch.uint8).view(4, 1, 1, 1).expand(4, 3, 50, 50).contiguous()
    return ImageSplit(images, (2, 2), ("a", "b"), ("all", "all"))
print("ready", flush=True)
sys.stdin.readline()
split = cached("toy", {}, make)
print(split.images.sum().item(), split.counts, split.classes, flush=True)
"""


@pytest.fixture
def pictures(tmp_path: Path, picture) -> Path:
    """A folder of a few pictures of 750 kB each."""
    for c in range(CLASSES):
        (tmp_path / "pictures" / f"c{c}").mkdir(parents=True)
        for i in range(IMAGES):
            data = picture(10 * c + i, size=(SIDE, SIDE))
            (tmp_path / "pictures" / f"c{c}" / f"{i}.png").write_bytes(data)
    return tmp_path / "pictures"


def start(code: str, *arguments: str) -> subprocess.Popen[str]:
    """A Python of its own, past its first line."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdin=pipe, stdout=pipe, text=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    return process


def mapping(images: Tensor) -> str:
    """The line of ``/proc/self/maps`` that an address lies in."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        low, high = (int(each, 16) for each in line.split()[0].split("-"))
        if low <= images.data_ptr() < high:
            return line
    raise AssertionError("an address outside of every mapping")


@linux
def test_images_are_a_mapped_file_from_the_first_time_on(own_cache: Path, pictures: Path) -> None:
    for _ in range(2):
        data = load("imagefolder", {"root": str(pictures), "image_size": SIDE})
        (path,) = own_cache.glob("imagefolder-*.pt")
        assert {mapping(part.images).split()[-1] for part in data.splits.values()} == {str(path)}
        source = data.source("train", EpisodeShape(2, 1, 2), device="cpu")
        assert mapping(source.split.images).split()[-1] == str(path)


@linux
def test_two_processes_have_the_same_pages(own_cache: Path, pictures: Path) -> None:
    readers = [start(READER, str(pictures)) for _ in range(2)]
    told = [reader.communicate("\n", timeout=60)[0] for reader in readers]
    (path,) = own_cache.glob("imagefolder-*.pt")
    part = told[0].partition(str(path))[2].partition("VmFlags")[0]  # while the other held it too
    kilobytes = {name: int(size) for name, size in re.findall(r"^(\w+): +(\d+) kB", part, re.M)}
    whole = CLASSES * IMAGES * SIDE * SIDE * 3 / 1024
    assert kilobytes["Rss"] == pytest.approx(whole, rel=0.01)
    assert kilobytes["Pss"] == pytest.approx(whole / 2, rel=0.01)
    assert kilobytes["Private_Dirty"] == 0


def test_of_processes_that_miss_the_same_file_one_makes_it(tmp_path: Path, own_cache: Path) -> None:
    makers = [start(MAKER, str(tmp_path / "log")) for _ in range(3)]
    for maker in makers:
        assert maker.stdin is not None
        maker.stdin.write("\n")
        maker.stdin.flush()
    told = {maker.communicate(timeout=60)[0] for maker in makers}
    assert told == {f"{(1 + 2 + 3) * 3 * 50 * 50} (2, 2) ('a', 'b')\n"}
    assert (tmp_path / "log").read_text() == "made\n"


def test_splits_are_views_of_one_tensor(own_cache: Path, pictures: Path) -> None:
    data = load("imagefolder", {"root": str(pictures), "image_size": 8})
    assert len({data.splits[split].images.data_ptr() for split in SPLITS}) == 1
    rows = torch.cat([data.splits[split].rows for split in SPLITS])
    assert sorted(rows.tolist()) == list(range(CLASSES * IMAGES))


def test_writing_to_the_images_leaves_the_file_alone(own_cache: Path, pictures: Path) -> None:
    options = {"root": str(pictures), "image_size": 8}
    before = load("imagefolder", options).fingerprint
    data = load("imagefolder", options)
    data.splits["train"].images.zero_()
    assert data.fingerprint != before
    assert load("imagefolder", options).fingerprint == before


def alone(part: ImageSplit) -> ImageSplit:
    """The same with its own images only, copied."""
    return ImageSplit(part.images[part.rows].clone(), part.counts, part.classes, part.groups)


@pytest.mark.parametrize("order", [(3, 0, 2), (1, 2, 3)])
def test_episodes_are_the_same_as_of_a_copy(
    numbered: Callable[..., ImageSplit], order: tuple[int, ...]
) -> None:
    whole = numbered((4, 3, 5, 6))
    part, copy = whole.pick(order), alone(whole.pick(order))
    starts = [0, 4, 7, 12]
    expected = [starts[c] + i for c in order for i in range(whole.counts[c])]
    assert part.rows.tolist() == expected
    assert copy.images[:, 0, 0, 0].tolist() == expected
    shape = EpisodeShape(2, 1, 2)
    for make in (
        lambda split: EpisodeSampler(split, shape),
        lambda split: EpisodeSampler(split, shape, augment="affine"),
        lambda split: ClassBatches(split, 9),
    ):
        batches = [make(split).sample(20, stream(0, "t")) for split in (part, copy)]
        assert all(map(torch.equal, tensors(batches[0]), tensors(batches[1])))
    splits = [dict.fromkeys(SPLITS, split) for split in (part, copy)]
    assert len({ImageDataset("toy", each).fingerprint for each in splits}) == 1


def test_elsewhere_a_split_is_without_the_images_of_others(
    numbered: Callable[..., ImageSplit],
) -> None:
    part = numbered((4, 3, 5)).pick([2, 0])
    assert part.to("cpu") is part
    moved = part.to("meta")
    assert moved.images.device.type == "meta"
    assert len(moved.images) == 9
    assert moved.starts.tolist() == [0, 5]
    assert moved.rows.tolist() == list(range(9))
