from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFont

from autometa.episodes import SPLITS, EpisodeShape, fonts, glyphs, load, stream
from autometa.errors import DataError
from autometa.testing.datasets import ImageDatasetTestCase

FEW = {"instances": 2}
LOOK_ALIKES = ("AАΑ", "BВΒ", "OОΟՕ", "TТΤ", "cCсС", "oOоΟօ", "PРΡ", "HНΗ", "xXхХΧ", "sSѕЅ", "vVν")


@pytest.fixture(scope="module")
def data():
    return load("glyphs")


class TestContract(ImageDatasetTestCase):
    @pytest.fixture
    def dataset(self):
        return lambda: load("glyphs")


class TestTwentyWays(ImageDatasetTestCase):
    @pytest.fixture
    def dataset(self):
        return lambda: load("glyphs", {"instances": 4, "image_size": 20})

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        return EpisodeShape(ways=20, shots=1, queries=3)


def code_points(data) -> list[str]:
    names = [name for split in SPLITS for name in data.classes(split)]
    return [unicodedata.lookup(name.upper()) for name in names]


def test_enough_classes_in_every_split(data) -> None:
    size = {row["split"]: row["classes"] for row in data.summary()}
    assert size["train"] >= 200
    assert min(size.values()) >= 40
    assert all(row["smallest_class"] == 20 for row in data.summary())
    assert data.input_shape == (1, 28, 28)


def test_scripts_are_disjoint_and_large_enough_for_tasks_within_one(data) -> None:
    groups = [Counter(data.splits[split].groups) for split in SPLITS]
    assert not set(groups[0]) & set(groups[1])
    assert not (set(groups[0]) | set(groups[1])) & set(groups[2])
    for split in SPLITS:
        source = data.source(split, EpisodeShape(5, 1, 15, within_groups=True))
        assert source.groups_left_out == ()


def test_classes_are_letters_that_are_no_composition_of_others(data) -> None:
    for character in code_points(data):
        assert unicodedata.category(character) in ("Lu", "Ll", "Lo")
        assert unicodedata.normalize("NFKD", character) == character


@pytest.mark.parametrize("alike", LOOK_ALIKES)
def test_look_alikes_are_one_class(data, alike: str) -> None:
    found = [character for character in code_points(data) if character in alike]
    # None at all where a letter of another alphabet, such as Armenian Օ, stands for them.
    assert len(found) <= 1, f"{alike} should be one class, are {found}"


def normalised(character: str, font: ImageFont.FreeTypeFont) -> np.ndarray:
    """The character's box scaled to 40 pixels, boolean: drawn without the code under test."""
    canvas = Image.new("L", (260, 260))
    ImageDraw.Draw(canvas).text((80, 80), character, fill=255, font=font)
    glyph = canvas.crop(canvas.getbbox())
    scale = 40 / max(glyph.size)
    glyph = glyph.resize([max(1, round(edge * scale)) for edge in glyph.size])
    out = Image.new("L", (40, 40))
    out.paste(glyph, ((40 - glyph.width) // 2, (40 - glyph.height) // 2))
    return np.asarray(out) > 127


def test_no_two_classes_look_the_same(data) -> None:
    path = str(fonts.faces()[0].path)
    font = ImageFont.truetype(path, 80, layout_engine=ImageFont.Layout.BASIC)
    flat = np.stack([normalised(c, font) for c in code_points(data)]).reshape(-1, 1600)
    both = flat.astype(np.float32) @ flat.T.astype(np.float32)
    ink = both.diagonal()
    union = ink[:, None] + ink - both
    overlap = both / union - np.eye(len(flat))
    assert overlap.max() < 0.9


def test_every_face_has_the_characters_drawn_from_it(data) -> None:
    for face in fonts.faces():
        font = ImageFont.truetype(str(face.path), 40, layout_engine=ImageFont.Layout.BASIC)
        box = bytes(font.getmask("\uffff"))
        had = [c for c in code_points(data) if ord(c) in face.codes]
        assert had
        assert not [c for c in had if bytes(font.getmask(c)) == box]


def test_every_image_has_ink_and_background(data) -> None:
    for split in SPLITS:
        images = data.splits[split].images[data.splits[split].rows]
        share = images.float().mean((1, 2, 3)) / 255
        assert share.min() > 0.005
        assert share.max() < 0.7
        assert images.amax((1, 2, 3)).min() > 100


def test_neither_trivial_nor_hopeless(data) -> None:
    source = data.source("test", EpisodeShape(5, 1, 15))
    batch = source.sample(100, stream(0, "t"))
    distance = torch.cdist(batch.query_x.flatten(2), batch.support_x.flatten(2))
    accuracy = (distance.argmin(-1) == batch.query_y).float().mean()
    assert 0.45 < accuracy < 0.75


def test_same_images_in_another_process(tmp_path: Path) -> None:
    expected = load("glyphs", FEW).fingerprint
    code = "from autometa.episodes import load; print(load('glyphs', {'instances': 2}).fingerprint)"
    fresh = {"AUTOMETA_CACHE": str(tmp_path / "cache"), "PYTHONHASHSEED": "123"}
    done = subprocess.run(
        [sys.executable, "-c", code], env=os.environ | fresh, capture_output=True, check=True
    )
    assert done.stdout.decode().strip() == expected


def test_the_seed_draws_other_images_of_the_same_classes() -> None:
    one, other = load("glyphs", FEW), load("glyphs", FEW | {"seed": 1})
    assert one.classes("test") == other.classes("test")
    assert one.fingerprint != other.fingerprint


def test_drawn_once(own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = load("glyphs", FEW)
    monkeypatch.setattr(glyphs, "_draw", None)
    assert load("glyphs", FEW).fingerprint == first.fingerprint


def test_without_the_fonts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DataError, match="install matplotlib"):
        load("glyphs")
