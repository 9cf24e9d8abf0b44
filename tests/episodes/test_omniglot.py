from __future__ import annotations

import io
from collections import Counter
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
import torch
from PIL import Image

from autometa.episodes import SPLITS, EpisodeShape, load, omniglot, stream
from autometa.errors import DataError
from autometa.testing.datasets import ImageDatasetTestCase

SIZES = {"Alpha": 5, "Beta": 6, "Gamma": 7, "Delta": 8, "Epsilon": 9, "Zeta": 5}


class TestContract(ImageDatasetTestCase):
    @pytest.fixture
    def dataset(self, shared):
        root = shared("omniglot")
        return lambda: load("omniglot", {"root": str(root), "rotations": "train"})


class TestContractOfARandomSplit(ImageDatasetTestCase):
    @pytest.fixture
    def dataset(self, shared):
        root = shared("omniglot")
        return lambda: load("omniglot", {"root": str(root), "split": "vinyals"})


@pytest.fixture
def archive(tmp_path: Path, own_cache: Path, zipped, picture):
    """A factory of small archives in the published layout, two drawers a character."""

    def make(name: str, sizes: dict[str, int], **more: bytes) -> Path:
        members = {
            f"{name}/{alphabet}/character{c:02}/{c:04}_{d:02}.png": picture(
                1000 * c + d + len(alphabet), size=(105, 105), mode="1"
            )
            for alphabet, size in sizes.items()
            for c in range(1, size + 1)
            for d in (1, 2)
        }
        members |= {key.replace("__", "/") + ".png": value for key, value in more.items()}
        zipped(tmp_path / f"{name}.zip", members)
        return tmp_path

    return make


def alphabets(data) -> dict[str, set[str]]:
    return {split: set(data.splits[split].groups) for split in SPLITS}


def test_the_real_archives_count_each_alphabet_once(shared) -> None:
    data = load("omniglot", {"root": str(shared("omniglot"))})
    assert sum(row["classes"] for row in data.summary()) == 136 + 156 - 24 - 26
    assert {count for split in SPLITS for count in data.splits[split].counts} == {20}
    sizes = Counter(g for split in SPLITS for g in data.splits[split].groups)
    assert (sizes["Greek"], sizes["Latin"], len(sizes)) == (24, 26, 8)


def test_ink_is_one_and_pixels_are_those_of_the_file(shared) -> None:
    root = shared("omniglot")
    data = load("omniglot", {"root": str(root), "image_size": 105})
    part = next(part for part in data.splits.values() if "Korean/character03" in part.classes)
    start = int(part.starts[part.classes.index("Korean/character03")])
    with ZipFile(root / "images_background_small1.zip") as zipped:
        inside = "images_background_small1/Korean/character03/"
        name = sorted(n for n in zipped.namelist() if n.startswith(inside) and n.endswith("png"))[4]
        raw = np.asarray(Image.open(io.BytesIO(zipped.read(name))))
    assert torch.equal(part.images[start + 4, 0], torch.from_numpy(np.where(raw, 0, 255)).byte())
    assert 0 < part.images[part.rows].float().mean() < 50


def test_named_alphabets_and_the_rest(shared) -> None:
    options = {"root": str(shared("omniglot")), "validation_alphabets": ["Greek"]}
    options |= {"test_alphabets": ["Sanskrit", "Tagalog", "Japanese_(katakana)"]}
    found = alphabets(load("omniglot", options))
    assert found["test"] == set(options["test_alphabets"])
    assert found["validation"] == {"Greek"}
    assert found["train"] == {"Balinese", "Early_Aramaic", "Korean", "Latin"}


def test_tasks_within_an_alphabet(shared) -> None:
    data = load(
        "omniglot", {"root": str(shared("omniglot")), "test_alphabets": ["Tagalog", "Korean"]}
    )
    source = data.source("test", EpisodeShape(20, 1, 5, within_groups=True))
    assert source.groups_left_out == ("Tagalog",)
    assert source.sample(2, stream(0, "t")).support_x.shape == (2, 20, 1, 28, 28)


def test_a_seeded_choice_leaves_enough_for_everyone(archive) -> None:
    root = archive("images_background", SIZES)
    found = [alphabets(load("omniglot", {"root": str(root), "seed": seed})) for seed in range(6)]
    assert all(len(set.union(*parts.values())) == len(SIZES) for parts in found)
    assert all(sum(map(len, parts.values())) == len(SIZES) for parts in found)
    assert len({frozenset(parts["test"]) for parts in found}) > 1
    assert found[0] == alphabets(load("omniglot", {"root": str(root), "seed": 0}))


def test_evaluation_is_the_test_split_where_both_big_archives_are(archive) -> None:
    archive("images_background", {k: SIZES[k] for k in ("Alpha", "Beta", "Gamma", "Delta")})
    root = archive("images_evaluation", {"Epsilon": 9, "Zeta": 5})
    found = alphabets(load("omniglot", {"root": str(root)}))
    assert found["test"] == {"Epsilon", "Zeta"}
    assert len(found["train"] | found["validation"]) == 4


def test_random_split_keeps_the_published_proportions(archive) -> None:
    root = archive("images_background", {"Alpha": 60, "Beta": 60, "Gamma": 42})
    data = load("omniglot", {"root": str(root), "split": "vinyals"})
    assert [len(data.classes(split)) for split in SPLITS] == [110, 10, 42]
    other = load("omniglot", {"root": str(root), "split": "vinyals", "seed": 1})
    assert set(data.classes("test")) != set(other.classes("test"))


@pytest.mark.parametrize(
    ("where", "factors"), [("none", (1, 1)), ("train", (4, 1)), ("all", (4, 4))]
)
def test_rotations_are_new_classes_in_groups_of_their_own(archive, where, factors) -> None:
    root = archive("images_background", SIZES)
    plain = load("omniglot", {"root": str(root)})
    turned = load("omniglot", {"root": str(root), "rotations": where})
    for split, factor in zip(("train", "test"), factors, strict=True):
        assert len(turned.classes(split)) == factor * len(plain.classes(split))
        groups = set(plain.splits[split].groups)
        assert len(set(turned.splits[split].groups)) == factor * len(groups)
    if where == "none":
        return
    part = turned.splits["train"]
    name = plain.classes("train")[1]
    rows = [part.classes.index(name + mark) for mark in ("", "@90", "@180")]
    upright, quarter, half = (part.images[int(part.starts[row]), 0] for row in rows)
    assert torch.equal(half, upright.flip(0, 1))
    assert torch.equal(quarter, upright.T.flip(0))


def test_unpacked_folders_give_the_same_data(archive, tmp_path: Path) -> None:
    root = archive("images_background", SIZES)
    expected = load("omniglot", {"root": str(root)})
    (tmp_path / "unpacked").mkdir()
    with ZipFile(root / "images_background.zip") as zipped:
        zipped.extractall(tmp_path / "unpacked")
    found = load("omniglot", {"root": str(tmp_path / "unpacked")})
    assert found.fingerprint == expected.fingerprint


def test_decoded_once_and_again_when_the_archive_changes(archive, monkeypatch) -> None:
    root = archive("images_background", SIZES)
    first = load("omniglot", {"root": str(root)}).fingerprint
    with monkeypatch.context() as patched:
        patched.setattr(omniglot, "_decode", None)
        assert load("omniglot", {"root": str(root)}).fingerprint == first
    archive("images_background", SIZES | {"Eta": 6})
    assert load("omniglot", {"root": str(root)}).fingerprint != first


def test_names_that_lead_out_of_the_archive_are_left_out(archive) -> None:
    root = archive("images_background", SIZES)
    expected = load("omniglot", {"root": str(root)}).fingerprint
    archive("images_background", SIZES, **{"..__..__Evil__character01__1": b"no picture"})
    before = sorted(root.parent.rglob("*Evil*"))
    assert load("omniglot", {"root": str(root)}).fingerprint == expected
    assert sorted(root.parent.rglob("*Evil*")) == before


def damage_zip(root: Path) -> None:
    path = root / "images_background.zip"
    path.write_bytes(path.read_bytes()[:3000])


def damage_member(root: Path) -> None:
    path = root / "images_background.zip"
    whole = bytearray(path.read_bytes())
    start = whole.index(b"\x89PNG")
    whole[start : start + 60] = bytes(60)
    path.write_bytes(whole)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (damage_zip, r"images_background\.zip isn't a readable zip"),
        (damage_member, r"Alpha/character01/0001_01\.png in .*images_background\.zip is damaged"),
    ],
)
def test_damaged_archives(archive, damage, message) -> None:
    root = archive("images_background", SIZES)
    damage(root)
    with pytest.raises(DataError, match=message):
        load("omniglot", {"root": str(root)})


def test_an_image_that_is_none(archive) -> None:
    root = archive("images_background", SIZES, x__Eta__character01__0001_01=b"text")
    with pytest.raises(DataError, match=r"x/Eta/character01/0001_01\.png in .*images_background"):
        load("omniglot", {"root": str(root)})


def test_an_alphabet_that_differs_between_archives(archive) -> None:
    archive("images_background_small1", {"Alpha": 5, "Beta": 5})
    root = archive("images_background_small2", {"Alpha": 4, "Gamma": 5})
    with pytest.raises(DataError, match=r"Alpha has 5 characters in .*small1 but 4 in .*small2"):
        load("omniglot", {"root": str(root)})


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"test_alphabets": ["Gama"]}, "'Gama' is unknown: did you mean 'Gamma'"),
        (
            {"test_alphabets": ["Beta"], "validation_alphabets": ["Beta"]},
            "'Beta' is in validation_alphabets and in test_alphabets",
        ),
        ({"test_alphabets": list(SIZES)}, "the .* split has no class"),
        ({"rotations": "some"}, "rotations is 'some', but must be one of 'none', 'train', 'all'"),
    ],
)
def test_bad_options(archive, options, message) -> None:
    root = archive("images_background", SIZES)
    with pytest.raises(DataError, match=message):
        load("omniglot", {"root": str(root)} | options)


def test_no_archives(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"has none of images_background\.zip"):
        load("omniglot", {"root": str(tmp_path)})
    with pytest.raises(DataError, match=r"nowhere.*must be a folder"):
        load("omniglot", {"root": str(tmp_path / "nowhere")})
    (tmp_path / "images_background").mkdir()
    with pytest.raises(DataError, match="hold no characters"):
        load("omniglot", {"root": str(tmp_path)})
