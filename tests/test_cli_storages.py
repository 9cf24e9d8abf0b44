"""Storages that can't be used, as a user sees it; with one Ray, since a search begins with it."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

Command = Callable[..., Any]
pytestmark = [pytest.mark.usefixtures("ray_here"), *RAY_WARNINGS]

STORAGES = [
    ("postgresql://me:secret@127.0.0.1:1/x", r"me:\*\*\*@.* \(connection to server .* refused\)"),
    ("postgresql://127.0.0.1:1/x?user=me&password=secret", r"password=\*\*\*' can't be used"),
    ("mysql://me:secret@127.0.0.1/x", r"'mysql://me:\*\*\*@127.0.0.1/x' needs a database driver"),
    ("sqlite:///nowhere/x.db", "can't be used .unable to open database file.: give a URL such as"),
    ("sqlite:///file.txt", "can't be used .file is not a database.: give a URL such as"),
    ("nonsense", "storage 'nonsense' can't be used"),
    ("foo://bar", "storage 'foo://bar' can't be used"),
]


@pytest.mark.parametrize(("url", "message"), STORAGES)
def test_a_storage_that_cannot_be_used(refused: Command, url: str, message: str) -> None:
    error = refused("search", "small.yaml", "--out", "study", "--storage", url)
    assert re.search(message, error, re.IGNORECASE)
    assert "secret" not in error
