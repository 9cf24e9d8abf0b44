"""Glyphs, the data set that needs no file: characters of many scripts, drawn at run time.

One class per character of the fonts that matplotlib ships; its images are the character in
several faces, its box scaled to a common size, warped by a random affine and elastic map, with a
stroke of random weight. Meta-train, -validation and -test have different scripts, and characters
that look alike (Latin A, Cyrillic А, Greek Α; c and C) are one class, of the split that keeps it:
test before validation before train.

The same options give the same images wherever torch, Pillow and the fonts are the same.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import version

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from . import fonts
from .augment import affine_grid, affine_maps
from .cache import cached
from .dataset import Device
from .images import ImageDataset, ImageSplit
from .options import check, option
from .progress import tracked
from .task import SPLITS, stream

GENERATOR_VERSION = 1

SCRIPTS = {
    "test": ("Armenian", "Georgian", "Lao", "Nko"),
    "validation": ("Greek", "Hebrew", "Ogham", "Old Italic", "Tifinagh"),
    "train": ("Latin", "Cyrillic", "Canadian Syllabics", "Arabic"),
}
"""In the order in which they keep a character that looks like one of another split."""

SIMILAR = 0.85
"""Above this cosine two characters look alike: it joins Т and T, not p and F."""

_BOX = 0.72
_WARP = 0.07
_BATCH = 2048


@dataclass(frozen=True)
class Options:
    """How the characters are drawn."""

    image_size: int = option("side of an image in pixels", 28, low=12, high=128)
    instances: int = option("images of each character", 20, low=2, high=1000)
    seed: int = option("draws another set of distortions", 0)

    def __post_init__(self) -> None:
        check(self)

    def load(self, *, device: Device = "cpu") -> ImageDataset:
        """The data set, drawn or taken from the cache.

        Raises:
            DataError: matplotlib's fonts aren't there.
        """
        faces = fonts.faces()
        key = asdict(self) | {
            "generator": GENERATOR_VERSION,
            "fonts": [(face.path.name, face.path.stat().st_size) for face in faces],
            "versions": [version("matplotlib"), version("pillow"), version("torch")],
        }
        whole = cached("glyphs", key, lambda: _draw(self, faces))
        splits = {
            split: [i for i, group in enumerate(whole.groups) if group in SCRIPTS[split]]
            for split in SPLITS
        }
        return ImageDataset.from_classes("glyphs", whole, splits, device=device)


def _draw(options: Options, faces: Sequence[fonts.Face]) -> ImageSplit:
    """Every class of every script."""
    chosen = _characters(faces[0])
    generator = stream(options.seed, "glyphs")
    side = 2 * options.image_size
    drawn = tracked(chosen, len(chosen))
    glyphs = [_in_faces(character, faces, side) for character in drawn]
    firsts = np.cumsum([0] + [len(each) for each in glyphs[:-1]])
    sizes = torch.tensor([len(each) for each in glyphs])
    picks = torch.rand(len(chosen), options.instances, generator=generator) * sizes[:, None]
    rows = torch.from_numpy(firsts)[:, None] + picks.long()
    sources = torch.from_numpy(np.stack([face for each in glyphs for face in each]))
    batches = torch.split(rows.flatten(), _BATCH)
    parts = [_distort(sources[part], generator) for part in tracked(batches, len(batches))]
    return ImageSplit(
        torch.cat(parts),
        (options.instances,) * len(chosen),
        tuple(character.name for character in chosen),
        tuple(character.script for character in chosen),
    )


def _characters(base: fonts.Face) -> list[fonts.Character]:
    """Those that look like no other, by split, script and code point."""
    order = [script for scripts in SCRIPTS.values() for script in scripts]
    found = sorted(fonts.characters(base, order), key=lambda c: (order.index(c.script), c.code))
    drawn = [(c, picture) for c in found if (picture := base.render(c.code, 32, 28)) is not None]
    kept = fonts.distinct(np.stack([picture for _, picture in drawn]), SIMILAR)
    return [drawn[index][0] for index in kept]


def _in_faces(
    character: fonts.Character, faces: Sequence[fonts.Face], side: int
) -> list[np.typing.NDArray[np.uint8]]:
    """The character in every face that has it, [side, side] each."""
    box = round(_BOX * side)
    drawn = [
        face.render(character.code, side, box) for face in faces if character.code in face.codes
    ]
    return [picture for picture in drawn if picture is not None]


def _distort(sources: Tensor, generator: torch.Generator) -> Tensor:
    """uint8 [B, 2S, 2S] → uint8 [B, 1, S, S], each warped and with a stroke of its own weight."""
    count, side = sources.shape[:2]
    ink = sources[:, None].float() / 255
    theta = affine_maps(count, generator, degrees=18, scale=0.2, shear=0.25, shift=0.05)
    grid = affine_grid(theta, side, side)
    bends = torch.randn(count, 2, 5, 5, generator=generator) * _WARP
    field = F.interpolate(bends, size=(side, side), mode="bicubic", align_corners=True)
    warped = F.grid_sample(ink, grid + field.permute(0, 2, 3, 1), align_corners=False)
    threshold = 0.22 + 0.2 * torch.rand(count, 1, 1, 1, generator=generator)
    # Thresholding a blurred stroke thickens or thins it; the slope leaves soft edges.
    width = max(3, side // 12) | 1
    blurred = F.avg_pool2d(warped, width, stride=1, padding=width // 2)
    stroke = ((blurred - threshold) * 6 + 0.5).clamp(0, 1)
    return (F.avg_pool2d(stroke, 2) * 255).round().to(torch.uint8)
