from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from autometa.episodes import load
from autometa.episodes.images import ImageDataset
from autometa.episodes.picture import save_picture
from autometa.errors import DataError


def test_a_sheet_shows_images_of_every_split(tmp_path: Path, numbered) -> None:
    splits = {s: numbered((4, 4, 4)) for s in ("train", "validation", "test")}
    for number, part in enumerate(splits.values()):
        part.images.fill_(80 + number)
    save_picture(ImageDataset("toy", splits), tmp_path / "toy.png", classes=2)
    with Image.open(tmp_path / "toy.png") as image:
        pixels = np.asarray(image.convert("L"))
    for value in (80, 81, 82):
        assert 2 * 4 * 64 * 64 * 0.98 < (pixels == value).sum() < 2 * 4 * 64 * 64 * 1.05


def test_colours_are_kept(tmp_path: Path, numbered) -> None:
    part = numbered((2, 2))
    red = type(part)(part.images.new_zeros(4, 3, 9, 9), part.counts, part.classes, part.groups)
    red.images[:, 0] = 200
    data = ImageDataset("red", {"train": red, "validation": red, "test": red})
    save_picture(data, tmp_path / "red.png")
    with Image.open(tmp_path / "red.png") as image:
        assert (200, 0, 0) in {colour for _, colour in image.getcolors(1 << 20)}


def test_curves_of_a_regression_family(tmp_path: Path) -> None:
    save_picture(load("sinusoid"), tmp_path / "curves.png")
    with Image.open(tmp_path / "curves.png") as image:
        assert min(image.size) > 400
        assert len(image.convert("RGB").getcolors(1 << 20)) > 100


def test_the_same_seed_gives_the_same_picture(tmp_path: Path) -> None:
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        save_picture(load("glyphs", {"instances": 2}), tmp_path / f"{name}.png", seed=seed)
    a, b, c = ((tmp_path / f"{name}.png").read_bytes() for name in "abc")
    assert a == b != c


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DataError, match=r"file/below\.png can't be written"):
        save_picture(load("sinusoid"), tmp_path / "file" / "below.png")
