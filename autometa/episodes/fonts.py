"""Characters of many scripts from the fonts that matplotlib ships, rendered with Pillow."""

from __future__ import annotations

import importlib.util
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from autometa.errors import DataError

BASE_FACE = "DejaVuSans.ttf"
FACES = (
    BASE_FACE,
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralItalic.ttf",
)
_LETTERS = ("Lu", "Ll", "Lo")
_POINTS = 96


@dataclass(frozen=True)
class Character:
    """One code point and its script."""

    code: int
    script: str

    @property
    def name(self) -> str:
        """Its Unicode name in lower case: ``"greek small letter alpha"``."""
        return unicodedata.name(chr(self.code)).lower()


@dataclass(frozen=True)
class Face:
    """One font file."""

    path: Path

    @cached_property
    def codes(self) -> frozenset[int]:
        """Code points that it has a glyph for; others would come out as an empty box."""
        from fontTools.ttLib import TTFont  # type: ignore[import-untyped]

        with TTFont(self.path, lazy=True) as font:
            return frozenset(font.getBestCmap())

    @cached_property
    def _font(self) -> ImageFont.FreeTypeFont:
        # The basic layout draws the glyph of the code point itself, whatever else is installed.
        return ImageFont.truetype(self.path, _POINTS, layout_engine=ImageFont.Layout.BASIC)

    def render(self, code: int, side: int, box: int) -> npt.NDArray[np.uint8] | None:
        """The glyph [side, side], ink 255 on 0, its longer edge scaled to ``box`` and centred.

        None if the glyph is blank.
        """
        text = chr(code)
        left, top, right, bottom = (round(edge) for edge in self._font.getbbox(text))
        if right <= left or bottom <= top:
            return None
        canvas = Image.new("L", (right - left + 8, bottom - top + 8))
        ImageDraw.Draw(canvas).text((4 - left, 4 - top), text, fill=255, font=self._font)
        edges = canvas.getbbox()
        if edges is None:
            return None
        glyph = canvas.crop(edges)
        scale = box / max(glyph.size)
        width, height = (max(1, round(edge * scale)) for edge in glyph.size)
        glyph = glyph.resize((width, height), Image.Resampling.BOX)
        framed = Image.new("L", (side, side))
        framed.paste(glyph, ((side - width) // 2, (side - height) // 2))
        return np.asarray(framed)


def faces() -> list[Face]:
    """The faces that are there, the base face first.

    Raises:
        DataError: matplotlib's fonts aren't there.
    """
    found = importlib.util.find_spec("matplotlib")
    places = list(found.submodule_search_locations or ()) if found else []
    root = Path(places[0], "mpl-data", "fonts", "ttf") if places else Path("matplotlib")
    paths = [root / name for name in FACES if (root / name).is_file()]
    if not paths or paths[0].name != BASE_FACE:
        raise DataError(
            f"glyphs: the font {BASE_FACE} isn't in {root}: install matplotlib, which ships it"
        )
    return [Face(path) for path in paths]


def characters(face: Face, scripts: Iterable[str]) -> list[Character]:
    """Letters of these scripts in ``face``, by code point.

    Left out are marks, spaces, modifiers and all that decomposes (accented letters, ligatures,
    presentation forms): they are other letters again.
    """
    wanted = {script.upper(): script for script in scripts}
    return [
        Character(code, wanted[_script(chr(code))])
        for code in sorted(face.codes)
        if unicodedata.category(chr(code)) in _LETTERS
        and not unicodedata.decomposition(chr(code))
        and _script(chr(code)) in wanted
    ]


def _script(character: str) -> str:
    """What its Unicode name says: GREEK, CANADIAN SYLLABICS, OLD ITALIC, …"""
    words = unicodedata.name(character, "").split()
    return " ".join(words[:2] if words[:1] in (["CANADIAN"], ["OLD"]) else words[:1])


def distinct(pictures: npt.NDArray[np.uint8], limit: float) -> list[int]:
    """Indices of pictures [n, S, S] to keep, none too similar to an earlier one that is kept.

    Similarity is the cosine of the two pictures, slightly blurred; ``limit`` is the largest.
    """
    flat = _blurred(pictures).reshape(len(pictures), -1)
    flat /= np.linalg.norm(flat, axis=1, keepdims=True)
    similar = flat @ flat.T > limit
    kept: list[int] = []
    for index in range(len(flat)):
        if not similar[index, kept].any():
            kept.append(index)
    return kept


def _blurred(pictures: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """A 3×3 binomial blur."""
    out = pictures.astype(np.float32)
    for axis in (1, 2):
        out = 0.25 * np.roll(out, 1, axis) + 0.5 * out + 0.25 * np.roll(out, -1, axis)
    return out
