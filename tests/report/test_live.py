"""The views of a running search, fed with events."""

from __future__ import annotations

import io
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from autometa.config import StudyConfig, parse_config
from autometa.report.live import LiveView, PlainView, make_view
from autometa.search.events import (
    Event,
    Links,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)

CONFIG = {"name": "demo", "budget": {"trials": 4, "iterations": 180, "time": "10m"}}
CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f\x7f]")


LOGIN = "http://127.0.0.1:40404/a-long-secret"


def config(**over: Any) -> StudyConfig:
    return parse_config(CONFIG | {"validation": {"every": 60}} | over)


def ended(number: int, end: str, score: float | None, reason: str = "") -> TrialEnded:
    at = 180 if end == "complete" else 60
    return TrialEnded(number, f"maml-conv-{number:03d}", end, reason, at, score, 0.021, 30.0)


def some_events(direction: str = "maximize") -> list[Event]:
    started = [TrialStarted(n, f"maml-conv-{n:03d}", "maml", "conv") for n in range(4)]
    return [
        SearchStarted(config(), direction, 0, Links("http://127.0.0.1:8265", LOGIN)),
        *started,
        TrialReported(0, 60, 0.5, 0.02),
        TrialReported(3, 60, 0.45, 0.02),
        TrialReported(0, 120, 0.58, 0.02),
        ended(0, "complete", 0.612),
        *(ended(n, "rejected", None, "parameters 9 exceed max_parameters 8") for n in (10, 11)),
        ended(1, "pruned", 0.3, "cut by the scheduler at 60 meta-iterations"),
        ended(2, "failed", None, "ValueError: a\nb\x1b[31mc [bold]d[/bold]"),
    ]


def plain_lines(events: list[Event]) -> list[str]:
    console = Console(file=io.StringIO(), width=80)
    view = make_view(console)
    assert isinstance(view, PlainView)
    with view:
        for event in events:
            view(event)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert not CONTROL.search(text)
    return text.splitlines()


def test_plain_lines_say_each_end_and_each_new_best() -> None:
    lines = plain_lines([*some_events(), ended(3, "complete", 0.803)])
    assert lines == [
        "study demo: 4 trials of at most 180 meta-iterations, at most 10 min, "
        "dashboard http://127.0.0.1:8265 (its token: ray get-auth-token)",
        "1/4 maml-conv-000 complete at 180/180  score 61.2 ± 2.1 %  "
        "best 61.2 ± 2.1 % (maml-conv-000)",
        "new best 61.2 ± 2.1 % (maml-conv-000)",
        "2/4 maml-conv-001 pruned at 60/180  score 30.0 ± 2.1 %  "
        "best 61.2 ± 2.1 % (maml-conv-000)  (cut by the scheduler at 60 meta-iterations)",
        "3/4 maml-conv-002 failed at 60/180  score –  best 61.2 ± 2.1 % (maml-conv-000)  "
        "(ValueError: a b [31mc [bold]d[/bold])",
        "4/4 maml-conv-003 complete at 180/180  score 80.3 ± 2.1 %  "
        "best 80.3 ± 2.1 % (maml-conv-003)",
        "new best 80.3 ± 2.1 % (maml-conv-003)",
    ]


def test_plain_phases_come_after_the_counts_of_all_ends() -> None:
    phases: list[Event] = [
        Phase("finalists", 0, 2),
        Phase("finalists", 1, 2, "maml-conv-000-seed1"),
        Phase("meta-test", 1, 1),
    ]
    assert plain_lines([*some_events(), *phases])[-4:] == [
        "trials: 1 complete, 1 pruned, 1 failed, 2 rejected (over a limit)",
        "finalists 0/2",
        "finalists 1/2 maml-conv-000-seed1",
        "meta-test 1/1",
    ]


def test_errors_are_minimised_and_no_percentages() -> None:
    lines = plain_lines(
        [
            SearchStarted(config(), "minimize", 0),
            ended(0, "complete", 0.5),
            ended(1, "complete", 0.4),
            ended(2, "complete", 0.7),
        ]
    )
    assert [line for line in lines if line.startswith("new best")] == [
        "new best 0.500 ± 0.021 (maml-conv-000)",
        "new best 0.400 ± 0.021 (maml-conv-001)",
    ]


@pytest.mark.parametrize("width", [80, 130])
@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_the_live_table_fits_its_terminal(width: int, direction: str) -> None:
    """No line is wrapped or longer than the terminal, whatever a reason holds."""
    view, console = live(width)
    for event in some_events(direction):
        view(event)
    lines = rendered(view, console)
    assert all(cell_len(line) <= width for line in lines), lines
    rows = [line for line in lines if "maml-conv-" in line and "best" not in line]
    assert [re.search(r"conv-(\d+)", row)[1] for row in rows] == ["003", "002", "001", "000"]  # type: ignore[index]
    words = ["running", "failed", "pruned", "complete"]
    assert all(word in row for word, row in zip(words, rows, strict=True))
    assert "━━╌╌╌╌  60/180" in rows[0]
    assert "━━━━━━ 180/180" in rows[3]
    assert ("a b [31mc [bold]d[/bold]" in rows[1]) == (width == 130)
    assert any("1 complete, 1 pruned, 1 failed, 2 rejected" in line for line in lines)


def test_the_live_header_has_time_left_dashboard_and_best() -> None:
    now = [0.0]
    view, console = live(80, lambda: now[0])
    for event in some_events():
        view(event)
    now[0] = 100.0
    lines = rendered(view, console)
    assert lines[0].strip() == "demo  1 min 40 s  trials 3/4  about 33 s left"
    assert lines[1].strip() == f"dashboard {LOGIN}"
    assert "by name" in lines[2]
    assert lines[3].strip() == "best 61.2 ± 2.1 %  maml-conv-000"
    view(Phase("finalists", 3, 6, "maml-conv-000-seed1"))
    lines = rendered(view, console)
    assert "left" not in lines[0]
    assert lines[-1].strip() == "━━━╌╌╌  finalists 3/6 maml-conv-000-seed1"


def test_many_trials_keep_to_twelve_rows_and_running_ones_first() -> None:
    view, console = live(80)
    view(SearchStarted(config(), "maximize", 0))
    for number in range(30):
        view(TrialStarted(number, f"maml-conv-{number:03d}", "maml", "conv"))
    for number in range(28):
        view(ended(number, "pruned", 0.3))
    rows = [line for line in rendered(view, console) if "maml-conv-" in line]
    assert len(rows) == 12
    names = [row.split()[0] for row in rows[:3]]
    assert names == ["maml-conv-028", "maml-conv-029", "maml-conv-027"]


def test_a_terminal_gets_the_live_view_and_it_is_not_cleared() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=30)
    view = make_view(console)
    assert isinstance(view, LiveView)
    with view:
        for event in some_events():
            view(event)
    output = console.file.getvalue()  # type: ignore[attr-defined]
    assert "\x1b[?1049h" not in output, "no alternate screen"
    assert "maml-conv-002" in output.splitlines()[-4] + output.splitlines()[-5] + output


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    console = Console(file=io.StringIO(), force_terminal=True, width=80, height=30)
    view = LiveView(console)
    for event in some_events():
        view(event)
    console.print(view.render())
    styles = re.findall(r"\x1b\[([\d;]*)m", console.file.getvalue())  # type: ignore[attr-defined]
    codes = {code for style in styles for code in style.split(";")}
    assert not codes & {str(c) for c in (*range(30, 38), *range(90, 98))}, codes


def test_a_resumed_search_shows_what_earlier_runs_found(make_study: Callable[..., Any]) -> None:
    made = make_study()
    made.fill()
    console = Console(file=io.StringIO(), width=80)
    view = make_view(console)
    view(SearchStarted(made.config, "maximize", 10))
    view(ended(12, "pruned", 0.3))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "10 trials kept" in text
    assert "11/14 maml-conv-012 pruned" in text
    assert "best 70.0 ± 1.5 %" in text


def test_a_resumed_search_without_its_storage_still_counts() -> None:
    lines = plain_lines([SearchStarted(config(), "maximize", 2), ended(2, "pruned", 0.3)])
    assert lines[-1].startswith("3/4 maml-conv-002 pruned")


def live(width: int, clock: Callable[[], float] | None = None) -> tuple[LiveView, Console]:
    console = Console(record=True, width=width, height=40, force_terminal=True, file=io.StringIO())
    return (LiveView(console, clock) if clock else LiveView(console)), console


def rendered(view: LiveView, console: Console) -> list[str]:
    console.print(view.render())
    return [line for line in console.export_text().splitlines() if line.strip()]
