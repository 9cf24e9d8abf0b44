"""Fixtures of the data sets' tests: where real data are, and small made-up archives."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from zipfile import ZipFile

import numpy as np
import pytest
from PIL import Image

from autometa.episodes.sampler import ImageSplit

SHARED = Path(__file__).parents[2].parent / "shared/data"


@pytest.fixture(scope="session")
def shared() -> Callable[[str], Path]:
    """Path of a real data set beside the checkout, or skip."""

    def find(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"real data {name!r} aren't at ../shared/data beside the checkout")
        return SHARED / name

    return find


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache folder for this test alone."""
    monkeypatch.setenv("AUTOMETA_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture(scope="session")
def picture() -> Callable[..., bytes]:
    """A factory of encoded pictures with random pixels of their own."""

    def make(seed: int, *, size: tuple[int, int] = (16, 16), mode: str = "RGB") -> bytes:
        rng = np.random.default_rng(seed)
        shape = (*size[::-1], 3) if mode == "RGB" else size[::-1]
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        out = io.BytesIO()
        Image.fromarray(pixels).convert(mode).save(out, "PNG")
        return out.getvalue()

    return make


@pytest.fixture(scope="session")
def zipped() -> Callable[[Path, Mapping[str, bytes | str]], Path]:
    """A factory of zips: path and member → content."""

    def make(path: Path, members: Mapping[str, bytes | str]) -> Path:
        with ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(name, content)
        return path

    return make


@pytest.fixture(scope="session")
def numbered() -> Callable[..., ImageSplit]:
    """A factory of splits whose image number i has the value i in all of its pixels."""
    import torch

    def make(counts: tuple[int, ...], groups: tuple[str, ...] = ()) -> ImageSplit:
        total = sum(counts)
        values = torch.arange(total, dtype=torch.uint8 if total < 256 else torch.int64)
        images = values.view(-1, 1, 1, 1).expand(-1, 1, 2, 2).contiguous()
        names = tuple(f"class{i}" for i in range(len(counts)))
        return ImageSplit(images, counts, names, groups or ("all",) * len(counts))

    return make
