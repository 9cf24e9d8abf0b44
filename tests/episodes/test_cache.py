from __future__ import annotations

import io
import threading
from pathlib import Path

import pytest
import torch

from autometa.episodes import cache
from autometa.episodes.sampler import ImageSplit

KEY = {"a": 1}


class Maker:
    """Makes the same split each time and counts how often."""

    def __init__(self, split: ImageSplit) -> None:
        self.split, self.calls = split, 0

    def __call__(self) -> ImageSplit:
        self.calls += 1
        return self.split


@pytest.fixture
def make(numbered) -> Maker:
    return Maker(numbered((2, 3), ("g", "h")))


def files(folder: Path) -> list[Path]:
    """What is kept, without locks and what may be left beside it."""
    return [path for path in folder.iterdir() if path.suffix != ".lock"]


def saved(content: dict[str, torch.Tensor]) -> bytes:
    file = io.BytesIO()
    torch.save(content, file)
    return file.getvalue()


def same(one: ImageSplit, other: ImageSplit) -> bool:
    heads = [(s.counts, s.classes, s.groups) for s in (one, other)]
    return heads[0] == heads[1] and torch.equal(one.images, other.images)


def test_made_once_and_read_back_whole(own_cache: Path, make: Maker) -> None:
    assert same(cache.cached("toy", KEY, make), make.split)
    assert same(cache.cached("toy", KEY, make), make.split)
    assert make.calls == 1
    assert files(own_cache) == [cache.file_of("toy", KEY)]


def test_another_key_is_another_file(own_cache: Path, make: Maker) -> None:
    for key in (KEY, {"a": 2}, {"b": 1}):
        cache.cached("toy", key, make)
    assert make.calls == 3


@pytest.mark.parametrize("damage", ["empty", "garbage", "cut", "flipped", "renamed", "other"])
def test_a_damaged_file_is_written_anew(own_cache: Path, make: Maker, damage: str) -> None:
    cache.cached("toy", KEY, make)
    path = cache.file_of("toy", KEY)
    whole = path.read_bytes()
    middle = whole.index(bytes([0, 0, 0, 0, 1, 1, 1, 1]))
    flipped = whole[:middle] + b"\xff" + whole[middle + 1 :]
    contents = {
        "empty": b"",
        "garbage": b"x" * 99,
        "cut": whole[:-7],
        "flipped": flipped,
        "renamed": whole.replace(b"class1", b"class7"),
        "other": saved({"images": torch.zeros(5, 1, 2, 2, dtype=torch.uint8)}),
    }
    assert contents[damage] != whole
    path.write_bytes(contents[damage])
    assert same(cache.cached("toy", KEY, make), make.split)
    assert make.calls == 2
    cache.cached("toy", KEY, make)
    assert make.calls == 2


def test_an_unusable_folder_costs_only_time(
    tmp_path: Path, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("AUTOMETA_CACHE", str(tmp_path / "file" / "below"))
    for _ in range(2):
        assert same(cache.cached("toy", KEY, make), make.split)
    assert make.calls == 2


def test_several_writers_at_once(own_cache: Path, make: Maker) -> None:
    barrier, wrong = threading.Barrier(6), []

    def work() -> None:
        barrier.wait()
        for number in range(20):
            if number % 5 == 0:
                cache._write(cache.file_of("toy", KEY), make.split)
            if not same(cache.cached("toy", KEY, make), make.split):
                wrong.append(number)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    assert make.calls == 0, "a reader met a file that was only partly written"
    assert len(files(own_cache)) == 1


def test_a_failed_write_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "picture.png"
    target.write_text("old")

    def fail() -> None:
        with cache.replacing(target) as temporary:
            temporary.write_text("half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        fail()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]
