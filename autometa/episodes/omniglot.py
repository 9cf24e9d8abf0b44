"""Omniglot: handwritten characters of fifty alphabets, each drawn by twenty people.

B. Lake, R. Salakhutdinov, J. Tenenbaum: "Human-level concept learning through probabilistic
program induction", Science 350, 2015, https://github.com/brendenlake/omniglot

Read from the published archives (``images_background.zip``, …) or the folders inside them.
Images are scaled from 105 to 28 pixels, ink 1 on 0. An alphabet that comes in several archives
counts once. Classes are split by alphabet, or at random as by O. Vinyals et al.: "Matching
Networks for One Shot Learning", NeurIPS 2016, https://arxiv.org/abs/1606.04080: 1,200 of the
1,623 characters for meta-training (100 of them for meta-validation, which the paper doesn't
mention; C. Finn's MAML code does so) and the rest for meta-test; in proportion where there are
fewer. The published rotations make new classes: by 90°, 180° and 270°.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, ImageOps

from autometa.errors import DataError, suggestion

from .archives import Pixels, Tree, decode, opened
from .cache import cached
from .dataset import Device
from .images import ImageDataset, ImageSplit
from .options import check, option
from .splits import by_fraction, runs, shuffled

ARCHIVES = (
    "images_background",
    "images_evaluation",
    "images_background_small1",
    "images_background_small2",
)
TURNS = ("", "@90", "@180", "@270")
"""What a name ends with when its images are turned by none, one, two and three right angles."""

_VALIDATION, _TEST = 0.15, 0.3
_VINYALS_VALIDATION, _VINYALS_TEST = 100 / 1623, 423 / 1623


@dataclass(frozen=True)
class Options:
    """Where the archives are, and how they are split."""

    root: str = option("folder with images_background.zip and the like, or with those unpacked")
    image_size: int = option("side of an image in pixels", 28, low=8, high=105)
    split: Literal["alphabets", "vinyals"] = option(
        "by whole alphabets, or all characters at random as by Vinyals et al.", "alphabets"
    )
    validation_alphabets: Sequence[str] = option("alphabets of meta-validation; none: chosen", ())
    test_alphabets: Sequence[str] = option("alphabets of meta-test; none: chosen", ())
    rotations: Literal["none", "train", "all"] = option(
        "where rotations by 90, 180 and 270 degrees are classes of their own", "none"
    )
    seed: int = option("of the alphabets or classes that are chosen", 0)

    def __post_init__(self) -> None:
        check(self)

    def load(self, *, device: Device = "cpu") -> ImageDataset:
        """The data set, decoded or taken from the cache.

        Raises:
            DataError: No archive is there, one is damaged, or an alphabet is unknown.
        """
        turns = 1 if self.rotations == "none" else len(TURNS)
        whole, evaluation = _read(Path(self.root).expanduser(), self.image_size, turns)
        upright = len(whole.classes) // turns
        splits = _split(self, whole.pick(range(upright)), evaluation)
        for name in {"none": (), "train": ("train",), "all": tuple(splits)}[self.rotations]:
            splits[name] = [turn * upright + i for turn in range(turns) for i in splits[name]]
        return ImageDataset.from_classes("omniglot", whole, splits, device=device)


def rotated(split: ImageSplit) -> ImageSplit:
    """Four times the classes: as they are, and turned by 90°, 180° and 270°.

    A turned alphabet is a group of its own.
    """
    return ImageSplit(
        torch.cat([split.images.rot90(turn, (2, 3)) for turn in range(len(TURNS))]),
        split.counts * len(TURNS),
        tuple(name + mark for mark in TURNS for name in split.classes),
        tuple(name + mark for mark in TURNS for name in split.groups),
    )


def _read(root: Path, size: int, turns: int) -> tuple[ImageSplit, frozenset[str]]:
    """All characters, and the alphabets of ``images_evaluation`` where both big archives are.

    The characters come once, or turned as well where ``turns`` isn't 1.
    """
    if not root.is_dir():
        raise DataError(f"root is {str(root)!r}, but must be a folder with Omniglot archives")
    with ExitStack() as stack:
        trees = {
            name: stack.enter_context(opened(path))
            for name in ARCHIVES
            if (path := _place(root, name)) is not None
        }
        if not trees:
            raise DataError(
                f"{root} has none of {', '.join(f'{name}.zip' for name in ARCHIVES)}: set root "
                "to the folder that holds the Omniglot archives"
            )
        if not (chosen := _characters(trees)):
            raise DataError(
                f"the archives in {root} hold no characters: there should be "
                "alphabet/characterNN/*.png in them"
            )
        files = [tree.stamp for tree in trees.values()]
        key = {"size": size, "turns": turns, "version": 2, "files": files}

        def make() -> ImageSplit:
            upright = _decode(trees, chosen, size)
            return upright if turns == 1 else rotated(upright)

        whole = cached("omniglot", key, make)
    both = {"images_background", "images_evaluation"} <= trees.keys()
    held = {name.split("/")[0] for name, part in chosen if part == "images_evaluation"}
    return whole, frozenset(held if both else ())


def _place(root: Path, name: str) -> Path | None:
    places = (root / f"{name}.zip", root / name)
    return next((place for place in places if place.exists()), None)


def _characters(trees: dict[str, Tree]) -> list[tuple[str, str]]:
    """(``alphabet/character``, archive) of every character; the first archive has an alphabet."""
    home: dict[str, tuple[str, list[str]]] = {}
    for archive, tree in trees.items():
        for alphabet, names in _alphabets(tree).items():
            first, known = home.setdefault(alphabet, (archive, names))
            if len(known) != len(names):
                raise DataError(
                    f"the alphabet {alphabet} has {len(known)} characters in {first} but "
                    f"{len(names)} in {archive}: one of the archives is incomplete"
                )
    return [(name, home[alphabet][0]) for alphabet in sorted(home) for name in home[alphabet][1]]


def _alphabets(tree: Tree) -> dict[str, list[str]]:
    """Alphabet → its ``alphabet/character``, in order."""
    found: dict[str, list[str]] = {}
    for name in sorted({_character(picture) for picture in tree.pictures()} - {""}):
        found.setdefault(name.split("/")[0], []).append(name)
    return found


def _character(picture: str) -> str:
    """``[images_background/]Greek/character01/0001_01.png`` → ``Greek/character01``."""
    return "/".join(picture.split("/")[-3:-1]) if picture.count("/") >= 2 else ""


def _decode(trees: dict[str, Tree], chosen: Sequence[tuple[str, str]], size: int) -> ImageSplit:
    def convert(image: Image.Image) -> Pixels:
        ink = ImageOps.invert(image.convert("L"))
        return np.asarray(ink.resize((size, size), Image.Resampling.LANCZOS))[None]

    home, order, images = dict(chosen), [], []
    for archive, tree in trees.items():
        names = [p for p in tree.pictures() if home.get(_character(p)) == archive]
        if names:
            images.append(decode(tree, names, convert))
            order += [_character(name) for name in names]
    classes, counts = runs(order)
    groups = tuple(name.split("/")[0] for name in classes)
    return ImageSplit(torch.from_numpy(np.concatenate(images)), counts, classes, groups)


def _split(options: Options, whole: ImageSplit, evaluation: frozenset[str]) -> dict[str, list[int]]:
    if options.split == "vinyals":
        count = len(whole.classes)
        return by_fraction(count, _VINYALS_VALIDATION, _VINYALS_TEST, options.seed, "vinyals")
    test, validation = _held_out(options, Counter(whole.groups), evaluation)
    where = dict.fromkeys(test, "test") | dict.fromkeys(validation, "validation")
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": []}
    for index, group in enumerate(whole.groups):
        parts[where.get(group, "train")].append(index)
    return parts


def _held_out(
    options: Options, sizes: Counter[str], evaluation: frozenset[str]
) -> tuple[set[str], set[str]]:
    """Alphabets of meta-test and meta-validation: those named, or a seeded choice.

    Raises:
        DataError: A name is unknown, or in both lists.
    """
    test, validation = set(options.test_alphabets), set(options.validation_alphabets)
    for name in sorted(test | validation):
        if name not in sizes:
            raise DataError(f"alphabet {name!r} is unknown: {suggestion(name, sizes)}")
    if test & validation:
        raise DataError(
            f"the alphabet {min(test & validation)!r} is in validation_alphabets and in "
            "test_alphabets: leave it in one"
        )
    order = sorted(sizes)
    order = [order[i] for i in shuffled(len(order), options.seed, "alphabets")]
    if not test:
        test = set(evaluation) - validation or _fill(
            [name for name in order if name not in validation], sizes, _TEST
        )
    if not validation:
        validation = _fill([name for name in order if name not in test], sizes, _VALIDATION)
    return test, validation


def _fill(order: Iterable[str], sizes: Counter[str], fraction: float) -> set[str]:
    """The first alphabets that together hold this fraction of all characters."""
    chosen: set[str] = set()
    for name in order:
        if sum(sizes[each] for each in chosen) >= fraction * sizes.total():
            break
        chosen.add(name)
    return chosen
