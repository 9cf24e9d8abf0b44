"""Any images of one's own: ``class/*.png`` in a folder or a zip, split by CSV files or at random.

A single folder that holds everything is looked through. Deeper folders give groups:
``alphabet/character/image.png`` is the class ``alphabet/character`` of the group ``alphabet``.
With ``train.csv``, ``val.csv`` (or ``validation.csv``) and ``test.csv`` at the top, columns
``filename,label``, the label is the class; a file name may be relative to the top or to
``images/``, or be the bare name, as in mini-ImageNet's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from autometa.errors import DataError

from .archives import Pixels, Tree, decode, opened
from .cache import cached
from .dataset import Device
from .images import ImageDataset, ImageSplit
from .options import check, option
from .splits import by_fraction, runs

LISTS = {
    "train": ("train.csv",),
    "validation": ("val.csv", "validation.csv"),
    "test": ("test.csv",),
}
_LARGEST_DEFAULT = 84


@dataclass(frozen=True)
class Options:
    """Where the images are, and how they are read and split."""

    root: str = option("a folder or a zip of class/image.png, with or without CSV splits")
    image_size: int | None = option(
        f"side of an image in pixels; by default the first image's, at most {_LARGEST_DEFAULT}",
        None,
        low=8,
        high=512,
    )
    channels: Literal["auto", 1, 3] = option("1 grey, 3 colours; auto: 3 if any has colour", "auto")
    validation_fraction: float = option("share of the classes where no CSV splits", 0.15, low=0)
    test_fraction: float = option("share of the classes where no CSV splits", 0.25, low=0)
    seed: int = option("of the random split", 0)

    def __post_init__(self) -> None:
        check(self)
        held = self.validation_fraction + self.test_fraction
        if held >= 1:
            raise DataError(
                f"validation_fraction + test_fraction is {held:g}, but must be below 1 to leave "
                "classes to train on"
            )

    def load(self, *, device: Device = "cpu") -> ImageDataset:
        """The data set, decoded or taken from the cache.

        Raises:
            DataError: Something is missing, damaged or contradictory; the message names it.
        """
        root = Path(self.root).expanduser()
        with opened(root) as tree:
            listing = _listing(tree)
            if not listing.files:
                raise DataError(f"{root} holds no images: it needs class/image.png or the like")
            key = {
                "version": 1,
                "files": tree.stamp,
                "size": self.image_size,
                "channels": self.channels,
            }
            whole = cached("imagefolder", key, lambda: _decode(self, tree, listing))
        splits = listing.splits or _random(self, whole)
        return ImageDataset.from_classes(
            "imagefolder", whole, splits, padding="border", device=device
        )


@dataclass(frozen=True)
class _Listing:
    """Which file has which class (sorted by class), and which split each class is in."""

    files: tuple[tuple[str, str], ...]
    splits: Mapping[str, Sequence[int]] | None


def _listing(tree: Tree) -> _Listing:
    top = _top(tree)
    lists = {s: name for s, names in LISTS.items() if (name := _present(tree, top, names))}
    if not lists:
        found = [(name[len(top) :].rpartition("/")[0], name) for name in tree.pictures()]
        return _Listing(tuple(sorted(pair for pair in found if pair[0])), None)
    for split in LISTS.keys() - lists.keys():
        raise DataError(
            f"{tree.path} has {min(lists.values())} but no {LISTS[split][0]}: add it, or remove "
            "all CSV files for a random split"
        )
    rows = {split: sorted(set(_rows(tree, top, name))) for split, name in lists.items()}
    labels = {split: {label for label, _ in part} for split, part in rows.items()}
    _check_disjoint(tree, "class", labels)
    _check_disjoint(tree, "file", {s: {file for _, file in part} for s, part in rows.items()})
    files = tuple(sorted(pair for part in rows.values() for pair in part))
    index = {label: i for i, label in enumerate(sorted({label for label, _ in files}))}
    return _Listing(
        files, {s: sorted(index[label] for label in part) for s, part in labels.items()}
    )


def _top(tree: Tree) -> str:
    """``"emoji48/"`` where that folder holds everything, else ``""``."""
    files = [*tree.pictures(), *(name for name in tree.names if name.endswith(".csv"))]
    firsts = {name.partition("/")[0] for name in files}
    deep = all(name.count("/") >= 2 or name.endswith(".csv") for name in files)
    return f"{firsts.pop()}/" if len(firsts) == 1 and deep else ""


def _present(tree: Tree, top: str, names: Sequence[str]) -> str | None:
    return next((top + name for name in names if top + name in tree.names), None)


def _rows(tree: Tree, top: str, name: str) -> Iterator[tuple[str, str]]:
    """(label, file) of each line of a CSV.

    Raises:
        DataError: A column is missing, or a line names a file that isn't there or isn't unique.
    """
    where = f"{name} in {tree.path}"
    try:
        lines = csv.DictReader(io.StringIO(tree.read(name).decode("utf-8-sig")), strict=True)
        columns = list(lines.fieldnames or ())
        missing = [column for column in ("filename", "label") if column not in columns]
        if missing:
            raise DataError(
                f"{where} lacks the column {missing[0]!r}: its first line must name filename and "
                f"label, but is {','.join(columns)!r}"
            )
        places = _places(tree, top)
        for line in lines:
            file, label = line["filename"] or "", line["label"]
            if not label:
                raise DataError(f"{where} has no label in line {lines.line_num} ({file!r})")
            if places.get(file) is None:
                problem = "is several files" if file in places else "isn't there"
                raise DataError(f"{where} names {file!r} in line {lines.line_num}, which {problem}")
            yield label, str(places[file])
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{where} isn't a readable CSV: {error}") from error


def _places(tree: Tree, top: str) -> dict[str, str | None]:
    """What a CSV may call each picture; None where a bare name is that of several."""
    bare: dict[str, str | None] = {}
    exact: dict[str, str | None] = {}
    for name in tree.pictures():
        base = name.rpartition("/")[2]
        bare[base] = None if base in bare else name
        exact[name] = exact[name[len(top) :]] = name
        exact[name[len(top) :].removeprefix("images/")] = name
    return bare | exact


def _check_disjoint(tree: Tree, what: str, parts: Mapping[str, set[str]]) -> None:
    for one, other in combinations(parts, 2):
        if shared := parts[one] & parts[other]:
            raise DataError(
                f"{tree.path}: the {one} and {other} splits share the {what} {min(shared)!r}, "
                "but no class may be in two splits"
            )


def _random(options: Options, whole: ImageSplit) -> dict[str, list[int]]:
    count = len(whole.classes)
    if count < 3:
        raise DataError(f"{options.root} has {count} classes, but three splits need at least 3")
    return by_fraction(
        count, options.validation_fraction, options.test_fraction, options.seed, "imagefolder"
    )


def _decode(options: Options, tree: Tree, listing: _Listing) -> ImageSplit:
    names = [name for _, name in listing.files]
    side = options.image_size or _side(tree, names[0])

    def convert(image: Image.Image) -> Pixels:
        fitted = ImageOps.fit(_upright(image), (side, side), Image.Resampling.BICUBIC)
        grey = fitted.convert("L") if options.channels == 1 else fitted
        return np.asarray(grey).reshape(side, side, -1)

    pixels = decode(tree, names, convert)
    if options.channels == "auto" and (pixels == pixels[..., :1]).all():
        pixels = pixels[..., :1]
    classes, counts = runs([label for label, _ in listing.files])
    groups = tuple(name.split("/")[0] if "/" in name else "all" for name in classes)
    images = torch.from_numpy(np.ascontiguousarray(pixels.transpose(0, 3, 1, 2)))
    return ImageSplit(images, counts, classes, groups)


def _side(tree: Tree, name: str) -> int:
    shorter = int(decode(tree, [name], lambda image: np.array(min(image.size)))[0])
    return max(8, min(shorter, _LARGEST_DEFAULT))


def _upright(image: Image.Image) -> Image.Image:
    """RGB, turned as a camera noted, what is transparent being white."""
    image = ImageOps.exif_transpose(image)
    if "transparency" not in image.info and "A" not in image.getbands():
        return image.convert("RGB")
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image.convert("RGBA")).convert("RGB")
