"""Following a search from elsewhere: what is new in its storage becomes events."""

from __future__ import annotations

import io
import math
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from autometa.report.live import LiveView
from autometa.report.views import make_view
from autometa.search.announce import RUN, announced
from autometa.search.events import (
    Event,
    Links,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.follow import Follower, onlooker
from autometa.search.study import COMPLETE, PRUNED, end_trial, report_score, rows_of

Make = Callable[..., Any]


def test_every_look_tells_only_what_is_new(make_study: Make) -> None:
    made, told = make_study(), list[Event]()
    follower = Follower(made.folder, None, told.append)
    with made.folder.lock():
        assert follower.look()
        assert [type(event) for event in told] == [SearchStarted]
        assert follower.look()
        assert len(told) == 1, "nothing is new"
        trial = made.trial(None, [0.4])
        follower.look()
        name = rows_of(made.study)[0].name
        assert told[1:] == [
            TrialStarted(0, name, name.split("-")[0], "conv"),
            TrialReported(0, 60, 0.4, 0.015),
        ]
        report_score(trial, 0.45, 120, seconds=60.0, ci95=0.02)
        report_score(trial, 0.5, 180, seconds=90.0, ci95=0.01)
        end_trial(trial, COMPLETE)
        follower.look()
        between, last, end = told[3:]
        assert isinstance(between, TrialReported)
        assert (between.iteration, between.score) == (120, 0.45)
        assert math.isnan(between.ci95), "of scores but the last, the interval isn't kept"
        assert last == TrialReported(0, 180, 0.5, 0.01)
        assert isinstance(end, TrialEnded)
        assert (end.number, end.end, end.score, end.ci95) == (0, COMPLETE, 0.5, 0.01)
        assert 0 <= end.ago_s < 60
        made.trial("rejected", [], "too large")
        follower.look()
        assert [(type(e), e.end) for e in told[6:]] == [(TrialEnded, "rejected")]  # type: ignore[union-attr]
        follower.look()
        assert len(told) == 7
    assert not follower.look(), "nobody drives it any more"


def test_who_watches_sees_what_the_search_itself_shows(make_study: Make) -> None:
    """The search's own view and that of one who joins later, side by side."""
    made = make_study(budget={"trials": 14, "iterations": 180, "time": "1h"})
    made.trial(COMPLETE, [0.4, 0.5, 0.9])
    made.study.set_user_attr("search_s", 300.0)
    own_console, console = (Console(width=100, height=40, file=io.StringIO()) for _ in range(2))
    own, other = (LiveView(screen, lambda: 0.0) for screen in (own_console, console))
    observer = announced(made.study, made.config, Links("http://127.0.0.1:8265"), own)
    run = made.study.user_attrs[RUN]
    made.study.set_user_attr(RUN, run | {"began": run["began"] - 30})
    made.trial(PRUNED, [0.31], "cut by the scheduler at 60 meta-iterations")
    made.trial(None, [0.45])
    for event in _events(made, {1, 2}):
        observer(event)
    with made.folder.lock():
        Follower(made.folder, None, other).look()
    shown, seen = (
        [line.rstrip() for line in _text(view, screen)]
        for view, screen in ((own, own_console), (other, console))
    )
    assert "2/14 trials  5 min of 1 h" in shown[0]
    assert re.search(r"2/14 trials  5 min [345]\d s of 1 h", seen[0]), (
        "it has run for half a minute"
    )
    assert "about" in seen[0], "the pace is that of this run's one trial"
    assert seen[1:] == shown[1:]
    assert re.fullmatch(r"best 90.0 ± 1.5 %  \w+-conv-000  just now", seen[3])


def _events(made: Any, numbers: set[int]) -> list[Event]:
    """What the driver would tell of these trials."""
    told: list[Event] = []
    with made.folder.lock():
        Follower(made.folder, None, told.append).look()
    return [e for e in told if getattr(e, "number", None) in numbers]


def _text(view: LiveView, console: Console) -> list[str]:
    console.print(view.render())
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    return [
        re.sub(r"[\d.]+ s ago", "just now", line)
        for line in lines
        if line.strip() and not line.startswith("CPU")
    ]


def test_phases_are_kept_for_those_who_look_on(make_study: Make) -> None:
    made, own, other = make_study(), list[Event](), list[Event]()
    observer = announced(made.study, made.config, Links(), own.append)
    follower = Follower(made.folder, None, other.append)
    phases = [Phase("super-net", 0, 20), Phase("super-net", 20, 20)]
    for phase in phases:
        observer(phase)
        follower.look()
    observer(TrialStarted(0, "maml-conv-000", "maml", "conv"))
    follower.look()
    assert other[1:] == phases
    late = list[Event]()
    Follower(made.folder, None, late.append).look()
    assert not any(isinstance(event, Phase) for event in late), "it is over"
    observer(Phase("finalists", 1, 6, "maml-conv-000-seed1"))
    follower.look()
    assert other[-1] == own[-1] == Phase("finalists", 1, 6, "maml-conv-000-seed1")


def test_a_study_of_an_earlier_version_can_be_watched(make_study: Make) -> None:
    made = make_study()
    made.fill()
    console = Console(file=io.StringIO(), width=100)
    Follower(made.folder, None, make_view(console)).look()
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    assert "10/14 " in lines[-1]


def test_a_search_that_has_only_just_begun_is_waited_for(make_study: Make) -> None:
    made, told = make_study(), list[Event]()
    kept = made.folder.database.rename(made.folder.path / "later")
    follower = Follower(made.folder, None, told.append)
    with made.folder.lock():
        assert follower.look()
        assert told == []
        kept.rename(made.folder.database)
        follower.look()
    assert [type(event) for event in told] == [SearchStarted]


def test_the_database_is_opened_for_reading_alone(make_study: Make) -> None:
    made = make_study()
    made.fill()
    before = made.folder.database.read_bytes()
    study = onlooker(made.config)
    assert rows_of(study) == rows_of(made.study)
    with pytest.raises(Exception, match=r"commit|readonly"):
        study.set_user_attr("x", 1)
    assert made.folder.database.read_bytes() == before


def test_a_look_never_keeps_a_search_from_its_study(make_study: Make) -> None:
    """Whoever looks holds the lock for an instant, which a search waits for."""
    made = make_study()
    held, free = threading.Event(), threading.Event()

    def look() -> None:
        with made.folder.lock(wait_s=0):
            held.set()
            time.sleep(0.2)
        free.set()

    thread = threading.Thread(target=look)
    thread.start()
    held.wait()
    with made.folder.lock():
        assert free.is_set()
    thread.join()


def test_a_database_that_a_kill_left_in_a_transaction_is_read_too(make_study: Make) -> None:
    """SQLite has to roll it back first, which one who only reads can't."""
    made = make_study()
    made.fill()
    known = rows_of(made.study)
    database = made.folder.database
    with closing(sqlite3.connect(database)) as writer:
        writer.execute("PRAGMA cache_size = 1")
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("CREATE TABLE filler (text TEXT)")
        writer.executemany("INSERT INTO filler VALUES (?)", [("x" * 4000,)] * 200)
        journal = Path(f"{database}-journal")
        kept = {path: path.read_bytes() for path in (database, journal)}
        writer.rollback()
    for path, content in kept.items():
        path.write_bytes(content)
    with (
        closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as reader,
        pytest.raises(sqlite3.OperationalError),
    ):
        reader.execute("SELECT * FROM trials").fetchall()
    assert rows_of(onlooker(made.config)) == known


@pytest.mark.parametrize("colours", [True, False])
def test_ctrl_c_ends_the_view_of_a_terminal_and_no_color_is_kept_to(
    make_study: Make, colours: bool
) -> None:
    made = make_study()
    made.fill()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": "90", "LINES": "40"}
    environment.pop("NO_COLOR", None)
    screen, terminal = os.openpty()
    with made.folder.lock():
        watcher = subprocess.Popen(
            [sys.executable, "-m", "autometa.cli", "watch", str(made.folder.path)],
            stdout=terminal,
            env=environment if colours else environment | {"NO_COLOR": "1"},
        )
        os.close(terminal)
        text = ""
        while "70.0 ± 1.5 %" not in text:
            text += os.read(screen, 65536).decode(errors="replace")
        watcher.send_signal(signal.SIGINT)
        with suppress(OSError):  # the terminal's end
            while more := os.read(screen, 65536):
                text += more.decode(errors="replace")
        assert watcher.wait() == 0
    os.close(screen)
    assert "\x1b[?25h" in text, "the cursor is there again"
    assert "Traceback" not in text
    codes = {
        int(code) for style in re.findall(r"\x1b\[([\d;]+)m", text) for code in style.split(";")
    }
    assert bool(codes & {*range(30, 38), *range(90, 98)}) == colours
