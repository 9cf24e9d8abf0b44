"""The views of a running search, fed with events."""

from __future__ import annotations

import io
import json
import math
import re
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psutil
import pytest
from rich.cells import cell_len
from rich.console import Console

from autometa.config import StudyConfig, parse_config
from autometa.report.live import LiveView
from autometa.report.plain import PlainView
from autometa.report.usage import Load, usage_text
from autometa.report.views import make_view
from autometa.search.events import (
    Event,
    Links,
    Phase,
    SearchStarted,
    TrialEnded,
    TrialReported,
    TrialStarted,
)
from autometa.search.study import rows_of

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


def test_data_come_before_the_search_and_many_pieces_are_told_by_tenths() -> None:
    data: list[Event] = [Phase("data", done, 400, "glyphs") for done in range(1, 401)]
    lines = plain_lines([*data, *some_events()])
    assert lines[:11] == [f"data {max(1, 40 * tenth)}/400 glyphs" for tenth in range(11)]
    assert lines[11].startswith("study demo: 4 trials")


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


@pytest.mark.parametrize("width", [60, 80, 120, 130])
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
    assert ("━━╌╌╌╌  60/180" if width > 60 else "  60/180") in rows[0]
    assert ("━━━━━━ 180/180" if width > 60 else "  180/180") in rows[3]
    assert ("a b [31mc [bold]d[/bold]" in rows[1]) == (width >= 120)
    assert "45.0 ± 2.0 %" in rows[0] or direction == "minimize"
    assert "▄█" in rows[3], "its curve"
    assert any("1 complete, 1 pruned, 1 failed, 2 rejected" in line for line in lines)


def test_the_live_header_has_time_left_dashboard_and_best() -> None:
    now = [0.0]
    view, console = live(80, lambda: now[0])
    for event in some_events():
        view(event)
    now[0] = 100.0
    lines = rendered(view, console)
    assert lines[0].strip() == "demo  ━━━━╌╌ 3/4 trials  1 min 40 s of 10 min  about 33 s left"
    assert lines[1].strip() == f"dashboard {LOGIN}"
    assert "by name" in lines[2]
    assert lines[3].strip() == "best 61.2 ± 2.1 %  maml-conv-000  1 min 40 s ago"
    view(Phase("finalists", 3, 6, "maml-conv-000-seed1"))
    lines = rendered(view, console)
    assert lines[0].strip() == "demo  ━━━━╌╌ 3/4 trials  1 min 40 s"
    assert any(line.strip() == "━━━╌╌╌  finalists 3/6 maml-conv-000-seed1" for line in lines)


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
    view(SearchStarted(made.config, "maximize", 10, known=tuple(rows_of(made.study))))
    view(ended(12, "pruned", 0.3))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "10 trials kept" in text
    assert "11/14 maml-conv-012 pruned" in text
    assert "best 70.0 ± 1.5 %" in text


def test_a_name_that_is_too_long_keeps_its_number() -> None:
    view, console = live(60)
    view(SearchStarted(config(), "maximize", 0))
    view(TrialStarted(41, "protonet-resnet-041", "protonet", "resnet"))
    view(TrialReported(41, 60, 0.5, 0.02))
    (row,) = (line for line in rendered(view, console) if "running" in line)
    assert row.split() == ["…et-resnet-041", "running", "60/180", "50.0", "±", "2.0", "%", "▁"]


@pytest.mark.parametrize(
    ("width", "first"),
    [
        (80, "demo  ━━━━╌╌ 3/4 trials  1 min 40 s of 10 min  about 33 s left"),
        (60, "demo  3/4 trials  1 min 40 s of 10 min  about 33 s left"),
        (54, "3/4 trials  1 min 40 s of 10 min  about 33 s left"),
    ],
)
def test_a_narrow_header_keeps_budget_and_time_left(width: int, first: str) -> None:
    now = [0.0]
    view, console = live(width, lambda: now[0])
    for event in some_events():
        view(event)
    now[0] = 100.0
    assert rendered(view, console)[0].strip() == first


def test_the_live_view_before_the_search_begins_shows_what_is_prepared() -> None:
    now = [0.0]
    view, console = live(80, lambda: now[0])
    now[0] = 20.0
    view(Phase("data", 100, 400, "glyphs"))
    now[0] = 30.0
    view(Phase("data", 300, 400, "glyphs"))
    lines = rendered(view, console)
    assert lines[0].strip() == "starting  30 s"
    assert lines[1].strip() == "━━━━╌╌  data 300/400 glyphs  about 5.0 s left"
    view(SearchStarted(config(), "maximize", 0))
    assert rendered(view, console)[0].startswith("demo  ╌╌╌╌╌╌ 0/4 trials  0.0 s of 10 min")


def test_who_joins_later_sees_the_age_of_everything() -> None:
    now = [1000.0]
    view, console = live(80, lambda: now[0])
    view(SearchStarted(config(), "maximize", 1, running_s=120.0, spent_s=60.0))
    for number, ago_s in ((0, 170.0), (1, 90.0), (2, 10.0)):
        view(TrialStarted(number, f"maml-conv-{number:03d}", "maml", "conv"))
        view(replace(ended(number, "complete", 0.5 + 0.1 * (number < 2)), ago_s=ago_s))
    lines = rendered(view, console)
    assert lines[0].strip() == "demo  ━━━━╌╌ 3/4 trials  3 min of 10 min  about 1 min left"
    assert lines[1].strip() == "best 60.0 ± 2.1 %  maml-conv-000  2 min 50 s ago"


def test_the_machine_is_measured_now_and_then() -> None:
    now = [0.0]
    view, console = live(80, lambda: now[0])
    view(SearchStarted(config(), "maximize", 0))
    assert not any("CPU" in line for line in rendered(view, console))
    now[0] = 2.5
    (line,) = (line for line in rendered(view, console) if "CPU" in line)
    assert f"/{psutil.virtual_memory().total / 1e9:.1f} GB" in line
    cpu = Load(0.931, 3_100_000_000, 25_300_000_000)
    gpus = [Load(0.4, 10**10, 8 * 10**10), Load(0.6, 3 * 10**10, 8 * 10**10)]
    assert usage_text(cpu, gpus[:1]) == "CPU 93 %, 3.1/25.3 GB  GPU 40 %, 10.0/80.0 GB"
    assert usage_text(cpu, gpus) == "CPU 93 %, 3.1/25.3 GB  2 GPUs 50 %, 40.0/160.0 GB"
    assert usage_text(cpu, [Load(math.nan, 10**10, 10**10)]).endswith("  GPU 10.0/10.0 GB")


def told(events: list[Event]) -> list[dict[str, Any]]:
    """What the view for programs writes; each line has to be JSON without NaN."""
    file = io.StringIO()
    view = make_view(Console(file=file), as_json=True)
    with view:
        for event in events:
            view(event)
    refuse = {"parse_constant": lambda name: pytest.fail(f"{name} is no JSON")}
    return [json.loads(line, **refuse) for line in file.getvalue().splitlines()]


def test_programs_get_every_event_as_a_line_of_json() -> None:
    secret = config(storage="postgresql://me:secret@host/x")
    events: list[Event] = [
        SearchStarted(secret, "maximize", 2),
        *some_events()[1:],
        TrialReported(1, 60, math.nan, math.inf),
        Phase("finalists", 1, 2, "maml-conv-000-seed1"),
    ]
    before = time.time()
    lines = told([*events, replace(ended(3, "complete", 0.5), ago_s=100.0)])
    names = ["trial_started"] * 4 + ["trial_reported"] * 3 + ["trial_ended"] * 5
    assert [line["event"] for line in lines] == [
        "search_started",
        *names,
        "trial_reported",
        "phase",
        "trial_ended",
    ]
    assert "secret" not in json.dumps(lines)
    assert lines[0]["config"]["budget"]["trials"] == 4
    assert {key: lines[0][key] for key in ("name", "folder", "direction", "metric", "ended")} == {
        "name": "demo",
        "folder": "trials/demo",
        "direction": "maximize",
        "metric": "accuracy",
        "ended": 2,
    }
    bare = [{k: v for k, v in line.items() if k not in ("event", "time")} for line in lines]
    assert bare[1] == {"number": 0, "name": "maml-conv-000", "learner": "maml", "backbone": "conv"}
    assert bare[5] == {"number": 0, "iteration": 60, "score": 0.5, "ci95": 0.02}
    assert bare[13] == {"number": 1, "iteration": 60, "score": None, "ci95": None}
    assert bare[14]["title"] == "finalists"
    assert bare[12] == {
        "number": 2,
        "name": "maml-conv-002",
        "end": "failed",
        "reason": "ValueError: a\nb\x1b[31mc [bold]d[/bold]",
        "iteration": 60,
        "score": None,
        "ci95": 0.021,
        "seconds": 30.0,
    }
    assert lines[-2]["time"] >= before - 0.01
    assert lines[-1]["time"] == pytest.approx(lines[-2]["time"] - 100, abs=5)


def test_quiet_is_quiet() -> None:
    console = Console(file=io.StringIO(), force_terminal=True)
    view = make_view(console, quiet=True)
    with view:
        for event in some_events():
            view(event)
    assert console.file.getvalue() == ""  # type: ignore[attr-defined]


def live(width: int, clock: Callable[[], float] | None = None) -> tuple[LiveView, Console]:
    console = Console(record=True, width=width, height=40, force_terminal=True, file=io.StringIO())
    return (LiveView(console, clock) if clock else LiveView(console)), console


def rendered(view: LiveView, console: Console) -> list[str]:
    console.print(view.render())
    return [line for line in console.export_text().splitlines() if line.strip()]
