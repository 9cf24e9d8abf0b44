"""What a user can do wrong, one exception a kind.

Everything here ends the command line with exit code 2 and the message as its only output,
so a message is one sentence with the field, the value seen and what would be right.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class UserError(Exception):
    """Bad input from the user; the message is all they need to mend it."""

    exit_code = 2


class ConfigError(UserError):
    """A study configuration that can't be run."""


class DataError(UserError):
    """A data set that is missing, damaged, or too small for the episodes asked of it."""


class StudyError(UserError):
    """A study folder or storage that can't be created, read or continued."""


class BundleError(UserError):
    """A bundle that can't be written or read."""


class BrowserError(UserError):
    """A picture of a report that no browser here can draw, or that can't be written."""


class UnknownNameError(ConfigError):
    """A name that no member of a registry has."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        super().__init__(f"{kind} {name!r} is unknown: {suggestion(name, known)}")


def suggestion(name: str, known: Iterable[str]) -> str:
    """The end of an error sentence: the nearest valid name, then all of them."""
    names = sorted(known)
    near = nearest(name, names)
    hint = f"did you mean {near!r}? " if near else ""
    return f"{hint}valid names are {', '.join(names)}"


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that is most like ``name``; None where none is."""
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=0.5)
    return near[0] if near else None
