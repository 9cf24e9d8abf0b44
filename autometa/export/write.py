"""Writing a winner in a format: refused before anything is written, then whole or not at all."""

from __future__ import annotations

from pathlib import Path

from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Format, Winner
from autometa.export.target import refuse_existing, written_whole


def format_of(name: str) -> Format:
    """The format of a name.

    Raises:
        UnknownNameError: No format has it; the message names the nearest one.
    """
    made: Format = FORMATS.load(name)()
    return made


def losses_of(winner: Winner, name: str) -> list[str]:
    """What of the winner a format can't express, a clause each.

    Raises:
        UnknownNameError: No format has this name.
        BundleError: The format has no place for this winner at all.
    """
    form = format_of(name)
    form.check(winner)
    return form.losses(winner)


def write_winner(winner: Winner, name: str, target: Path, *, lossy: bool = False) -> Path:
    """Write a winner into a folder that isn't there yet.

    Raises:
        UnknownNameError: No format has this name.
        BundleError: The target exists or can't be written, the format has no place for this winner,
            or would lose some of it and ``lossy`` doesn't say that this may be.
    """
    form = format_of(name)
    refuse_existing(target)
    form.check(winner)
    lost = [] if lossy else form.losses(winner)
    if lost:
        raise BundleError(
            f"format {name!r} can't express all of {winner.entry['name']!r}: {'; '.join(lost)} "
            "(--lossy, in Python lossy=True, exports the rest)"
        )
    with written_whole(target) as into:
        form.write(winner, into)
    return target
