"""What one check found."""

from __future__ import annotations

from dataclasses import dataclass

OK = "OK"
WARNING = "warning"
PROBLEM = "problem"


@dataclass(frozen=True)
class Finding:
    """The outcome of a check.

    Attributes:
        check: What was looked at.
        state: :data:`OK`, :data:`WARNING` (a search runs, but slower or with less to see) or
            :data:`PROBLEM` (it fails, or may fail on its way).
        found: What is there.
        advice: What to do; empty where all is well.
    """

    check: str
    state: str
    found: str
    advice: str = ""


def ok(check: str, found: str) -> Finding:
    return Finding(check, OK, found)


def warning(check: str, found: str, advice: str) -> Finding:
    return Finding(check, WARNING, found, advice)


def problem(check: str, found: str, advice: str) -> Finding:
    return Finding(check, PROBLEM, found, advice)


def size(amount: float) -> str:
    """Bytes in words: ``3.1 GB``, ``64 MB``."""
    return f"{amount / 1e9:,.1f} GB" if amount >= 1e9 else f"{amount / 1e6:,.0f} MB"
