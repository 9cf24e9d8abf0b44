"""Whoever listens hears how far a data set is."""

from __future__ import annotations

from pathlib import Path

import pytest

from autometa.config import parse_config
from autometa.episodes import load, progress
from autometa.episodes.progress import listening, tracked
from autometa.search.events import Event, Phase
from autometa.search.run import prepared


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Every piece is told, and nothing is in the cache."""
    monkeypatch.setattr(progress, "EVERY_S", 0.0)
    monkeypatch.setenv("AUTOMETA_CACHE", str(tmp_path / "cache"))


@pytest.mark.usefixtures("at_once")
def test_decoding_is_told_piece_by_piece_and_only_while_someone_listens(place: Path) -> None:
    told: list[tuple[int, int]] = []
    with listening(lambda done, total: told.append((done, total))):
        load("imagefolder", {"root": str(place / "images.zip")})
    assert told == [(done, 71) for done in range(72)]
    with listening(lambda done, total: told.append((done, total))):
        load("imagefolder", {"root": str(place / "images.zip")})
    assert len(told) == 72, "it was in the cache"
    assert list(tracked("abc", 3)) == ["a", "b", "c"]
    assert len(told) == 72


@pytest.mark.usefixtures("at_once")
def test_a_search_shows_how_far_its_data_are(place: Path) -> None:
    told: list[Event] = []
    values = {"data": {"name": "imagefolder", "options": {"root": str(place / "images.zip")}}}
    prepared(parse_config(values | {"task": {"ways": 2, "shots": 1, "queries": 2}}), told.append)
    assert told[-1] == Phase("data", 71, 71, "imagefolder")
    assert len(told) == 72


def test_what_is_quick_is_not_told() -> None:
    told: list[tuple[int, int]] = []
    with listening(lambda done, total: told.append((done, total))):
        assert list(tracked(range(1000), 1000)) == list(range(1000))
    assert told == []
