from __future__ import annotations

import io
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from autometa.episodes import SPLITS, EpisodeShape, imagefolder, load, stream
from autometa.errors import DataError
from autometa.testing.datasets import ImageDatasetTestCase

HEAD = "filename,label\n"


class TestContract(ImageDatasetTestCase):
    distinct_images = False

    @pytest.fixture
    def dataset(self, shared):
        root = shared("emoji48.zip")
        return lambda: load("imagefolder", {"root": str(root)})


class TestContractOfARandomSplit(ImageDatasetTestCase):
    @pytest.fixture
    def dataset(self, folder):
        root = folder(20, 4)
        return lambda: load("imagefolder", {"root": str(root)})

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        return EpisodeShape(ways=3, shots=1, queries=2)


@pytest.fixture
def folder(tmp_path: Path, own_cache: Path, picture):
    """A factory of folders with random images, ``c00/0.png`` and so on."""

    def make(classes: int, images: int, *, mode: str = "RGB", below: str = "") -> Path:
        for c in range(classes):
            place = tmp_path / "data" / below / f"c{c:02}"
            place.mkdir(parents=True)
            for i in range(images):
                (place / f"{i}.png").write_bytes(picture(100 * c + i, mode=mode))
        return tmp_path / "data"

    return make


@pytest.fixture
def listed(tmp_path: Path, own_cache: Path, zipped, picture):
    """A factory of zips with CSV splits: classes a, b | c, d | e, f, two images each."""

    def make(rename=lambda name, label: f"{label}/{name}", top: str = "", **changed: str) -> Path:
        parts = {"train": "ab", "val": "cd", "test": "ef"}
        members: dict[str, bytes | str] = {}
        for part, labels in parts.items():
            names = [(f"{label}{i}.png", label) for label in labels for i in range(2)]
            lines = "".join(f"{rename(name, label)},{label}\n" for name, label in names)
            members[f"{top}{part}.csv"] = HEAD + lines
            for name, label in names:
                members[top + rename(name, label)] = picture(ord(label) * 10 + int(name[1]))
        for name, text in changed.items():
            members[f"{top}{name}.csv"] = text
        members = {name: content for name, content in members.items() if content}
        return zipped(tmp_path / "data.zip", members)

    return make


def test_the_real_zip_has_the_splits_and_pixels_of_its_files(shared) -> None:
    root = shared("emoji48.zip")
    data = load("imagefolder", {"root": str(root)})
    assert [len(data.classes(split)) for split in SPLITS] == [663, 63, 269]
    assert data.input_shape == (3, 48, 48)
    part, name = data.splits["test"], "otter"
    with ZipFile(root) as zipped:
        names = sorted(n for n in zipped.namelist() if n.startswith(f"emoji48/{name}/"))
        raw = [np.asarray(Image.open(io.BytesIO(zipped.read(n))).convert("RGB")) for n in names]
    start = int(part.starts[part.classes.index(name)])
    expected = torch.from_numpy(np.stack(raw)).permute(0, 3, 1, 2)
    assert torch.equal(part.images[start : start + 7], expected)


def test_support_and_query_of_the_real_zip_are_disjoint(shared) -> None:
    data = load("imagefolder", {"root": str(shared("emoji48.zip"))})
    index = data.source("train", EpisodeShape(5, 1, 6)).indices(20, stream(0, "t"))
    assert all(len(task.unique()) == 35 for task in index)


def test_a_seeded_random_split(folder) -> None:
    root = folder(20, 3)
    options = {"root": str(root), "validation_fraction": 0.1, "test_fraction": 0.3}
    one, same, other = (load("imagefolder", options | {"seed": s}) for s in (0, 0, 1))
    assert [len(one.classes(split)) for split in SPLITS] == [12, 2, 6]
    assert one.fingerprint == same.fingerprint
    assert set(one.classes("test")) != set(other.classes("test"))


def test_one_folder_around_everything_is_looked_through(folder) -> None:
    data = load("imagefolder", {"root": str(folder(6, 2, below="top"))})
    assert {name for split in SPLITS for name in data.classes(split)} == {
        f"c{c:02}" for c in range(6)
    }


def test_deeper_folders_are_groups(folder, tmp_path: Path) -> None:
    folder(4, 3, below="left")
    root = folder(4, 3, below="right")
    options = {"root": str(root), "test_fraction": 0.4, "validation_fraction": 0.2}
    data = load("imagefolder", options)
    assert {g for split in SPLITS for g in data.splits[split].groups} == {"left", "right"}
    assert all(name.split("/")[0] in ("left", "right") for name in data.classes("train"))


@pytest.mark.parametrize("top", ["", "mine/"])
@pytest.mark.parametrize(
    "rename",
    [lambda n, c: f"{c}/{n}", lambda n, c: f"images/{n}", lambda n, c: f"images/{c}/{n}"],
)
def test_csv_splits(listed, rename, top) -> None:
    data = load("imagefolder", {"root": str(listed(rename, top))})
    assert [list(data.classes(split)) for split in SPLITS] == [list("ab"), list("cd"), list("ef")]


def test_csv_with_bare_names_as_in_mini_imagenet(listed, picture) -> None:
    lines = {
        part: HEAD + "".join(f"{label}{i}.png,{label}\n" for label in labels for i in range(2))
        for part, labels in {"train": "ab", "val": "", "validation": "cd", "test": "ef"}.items()
    }
    lines["val"] = ""
    data = load("imagefolder", {"root": str(listed(lambda n, c: f"images/{n}", **lines))})
    assert list(data.classes("validation")) == ["c", "d"]
    expected = np.asarray(Image.open(io.BytesIO(picture(ord("e") * 10 + 1))))
    test = data.splits["test"]
    assert torch.equal(
        test.images[test.rows[1]], torch.from_numpy(expected.copy()).permute(2, 0, 1)
    )


@pytest.mark.parametrize(
    ("mode", "channels", "expected"),
    [("L", "auto", 1), ("RGB", "auto", 3), ("L", 3, 3), ("RGB", 1, 1)],
)
def test_channels(folder, mode, channels, expected) -> None:
    data = load("imagefolder", {"root": str(folder(4, 2, mode=mode)), "channels": channels})
    assert data.input_shape == (expected, 16, 16)


def test_sizes_proportions_and_transparency(folder, tmp_path: Path) -> None:
    root = folder(4, 2)
    wide = Image.new("RGBA", (40, 20), (0, 0, 0, 0))
    wide.paste((255, 0, 0, 255), (10, 0, 30, 20))
    wide.save(root / "c00" / "0.png")
    data = load("imagefolder", {"root": str(root), "image_size": 10})
    assert data.input_shape == (3, 10, 10)
    part = next(p for p in data.splits.values() if "c00" in p.classes)
    first = part.images[int(part.starts[part.classes.index("c00")])]
    assert first[:, 5, 5].tolist() == [255, 0, 0], "the middle is kept, not squeezed"
    wide.paste((0, 0, 0, 0), (0, 0, 40, 20))
    wide.save(root / "c00" / "0.png")
    again = load("imagefolder", {"root": str(root), "image_size": 10})
    part = next(p for p in again.splits.values() if "c00" in p.classes)
    assert part.images[int(part.starts[part.classes.index("c00")])].min() == 255


def test_decoded_once(folder, monkeypatch) -> None:
    root = folder(5, 2)
    first = load("imagefolder", {"root": str(root)}).fingerprint
    monkeypatch.setattr(imagefolder, "_decode", None)
    assert load("imagefolder", {"root": str(root)}).fingerprint == first


def test_a_class_that_is_too_small_is_named(listed) -> None:
    data = load(
        "imagefolder", {"root": str(listed(train=HEAD + "a/a0.png,a\nb/b0.png,b\nb/b1.png,b\n"))}
    )
    with pytest.raises(DataError, match=r"'a' with 1 images.*1 shots and 1 queries take 2"):
        data.source("train", EpisodeShape(2, 1, 1))
    data.source("test", EpisodeShape(2, 1, 1))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"train": "file,label\na/a0.png,a\n"}, "train.csv in .*lacks the column 'filename'"),
        ({"test": "filename,class\n"}, "test.csv in .*lacks the column 'label'.*filename,class"),
        ({"test": HEAD + "e/none.png,e\n"}, "test.csv in .*'e/none.png' in line 2, which isn't"),
        ({"test": HEAD + "e/e0.png,a\n"}, "train and test splits share the class 'a'"),
        ({"test": HEAD + "a/a0.png,e\n"}, "train and test splits share the file 'a/a0.png'"),
        ({"test": HEAD + "e/e0.png\n"}, "test.csv in .*no label in line 2"),
        ({"val": ""}, "test.csv but no val.csv: add it"),
        ({"test": HEAD}, "the test split has no class"),
        ({"test": ""}, "train.csv but no test.csv"),
    ],
)
def test_bad_csv_files(listed, changed, message) -> None:
    with pytest.raises(DataError, match=message):
        load("imagefolder", {"root": str(listed(**changed))})


def test_a_bare_name_of_two_files(tmp_path: Path, own_cache: Path, zipped, picture) -> None:
    members = {f"{c}/0.png": picture(ord(c)) for c in "abc"}
    members |= {f"{p}.csv": HEAD + f"0.png,{p}\n" for p in ("train", "val", "test")}
    with pytest.raises(DataError, match=r"'0\.png' in line 2, which is several files"):
        load("imagefolder", {"root": str(zipped(tmp_path / "data.zip", members))})


def test_a_damaged_image_is_named(folder) -> None:
    root = folder(4, 2)
    whole = (root / "c01" / "1.png").read_bytes()
    (root / "c01" / "1.png").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"c01/1\.png in .*isn't a readable image"):
        load("imagefolder", {"root": str(root)})


def test_missing_empty_and_broken_roots(tmp_path: Path, own_cache: Path) -> None:
    with pytest.raises(DataError, match="nowhere doesn't exist"):
        load("imagefolder", {"root": str(tmp_path / "nowhere")})
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty holds no images"):
        load("imagefolder", {"root": str(tmp_path / "empty")})
    (tmp_path / "bad.zip").write_bytes(b"PK\x03\x04 not a zip")
    with pytest.raises(DataError, match=r"bad\.zip isn't a readable zip"):
        load("imagefolder", {"root": str(tmp_path / "bad.zip")})


def test_too_few_classes_for_three_splits(folder) -> None:
    with pytest.raises(DataError, match="has 2 classes, but three splits need at least 3"):
        load("imagefolder", {"root": str(folder(2, 3))})


def test_fractions_that_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"is 1\.1, but must be below 1"):
        load("imagefolder", {"root": "x", "validation_fraction": 0.5, "test_fraction": 0.6})
