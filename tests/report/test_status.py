"""What ``autometa status`` prints, and results in words."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import pytest
from rich.cells import cell_len
from rich.console import Console

from autometa.report.candidates import candidate_text, value_text
from autometa.report.status import status_table
from autometa.report.text import (
    comparison,
    duration,
    next_steps,
    one_line,
    percent,
    score_text,
    squared_error,
    summary,
)
from autometa.search.study import rows_of

Make = Callable[..., Any]


def printed(made: Any, *, running: bool, width: int = 100, **options: Any) -> str:
    console = Console(file=io.StringIO(), width=width)
    result = made.folder.read_result()
    console.print(status_table(made.config, rows_of(made.study), result, running, **options))
    return console.file.getvalue()  # type: ignore[no-any-return, attr-defined]


def test_an_interrupted_study_says_how_to_go_on(make_study: Make) -> None:
    made = make_study()
    made.fill()
    text = printed(made, running=False)
    assert f"interrupted: go on with `autometa resume {made.config.folder}`" in text.replace(
        "\n", ""
    ).replace("resume/", "resume /")
    assert "trials 10/14: 6 complete, 2 pruned, 1 diverged, 1 failed, 1 rejected" in text
    assert "1 unfinished" in text
    assert "running" not in text


def test_a_running_study_shows_its_running_trials_first(make_study: Make) -> None:
    made = make_study()
    made.fill()
    lines = printed(made, running=True).splitlines()
    assert "running: trials" in lines[0]
    assert lines[2].startswith("best 70.0 ± 1.5 %")
    rows = [line for line in lines[3:] if "-conv-" in line]
    assert "-011" in rows[0]
    assert "running" in rows[0]
    assert "-005" in rows[1], "then the best"
    assert len(rows) == 10, "one runs; of those ended, all but the one without a score"


def test_a_finished_study_shows_winner_and_meta_test(make_study: Make) -> None:
    made = make_study()
    made.fill()
    made.finish()
    text = " ".join(printed(made, running=False).split())
    assert "finished" in text
    assert "meta-test: 80.3 ± 1.5 % on 600 tasks" in text
    assert "75.4 ± 1.6 % on 600 tasks; the winner: 4.9 ± 2.2 points better" in text
    assert "it took 9 min 11 s" in text


def test_errors_are_not_shown_as_percentages(make_study: Make) -> None:
    made = make_study("minimize", task={"ways": 1})
    made.fill()
    text = printed(made, running=True)
    assert "%" not in text
    assert "best 0.250 ± 0.015" in text
    assert "%" in printed(made, running=True, direction="maximize"), "the caller knows better"


def test_status_of_a_study_without_trials(make_study: Make) -> None:
    text = printed(make_study(), running=True)
    assert "trials 0/14: none" in text
    assert "no trial is complete yet" in text


@pytest.mark.parametrize("width", [80, 140])
def test_tables_keep_to_the_width_and_markup_in_reasons_stays_text(
    make_study: Make, width: int
) -> None:
    made = make_study()
    made.trial("diverged", [0.4], "[red]loss[/red] " * 20)
    lines = printed(made, running=False, width=width).splitlines()
    assert all(cell_len(line) <= width for line in lines)
    assert ("[red]loss[/red]" in "".join(lines)) == (width == 140)


def test_the_summary_is_short_and_has_the_figures(make_study: Make) -> None:
    made = make_study()
    made.fill()
    lines = summary(made.finish(), made.folder)
    text = "\n".join(lines)
    assert len(lines) <= 6
    assert "accuracy 80.3 ± 1.5 % on 600 tasks" in text
    assert "has 75.4 ± 1.6 %: 4.9 ± 2.2 points better" in text
    assert "2.0 ± 2.5 points better than maml-conv-004 on 200 meta-validation tasks" in text
    assert "it beats it with a probability of 0.94" in text
    assert "accuracy 67.9 ± 2.0 % on 100 tasks that chose nothing" in text
    assert "optimism of the search +2.1 ± 2.0 points (all finalists: -0.4 ± 1.5 points)" in text
    assert "9 min 11 s, 6 min 2 s of it for the search" in text
    assert "6 complete, 2 pruned, 1 diverged, 1 failed, 1 rejected (over a limit)" in text
    assert any(str(made.folder.bundle) in line for line in next_steps(made.folder))
    assert "baseline" not in "\n".join(summary(made.finish(baseline=False), made.folder))


def test_a_difference_within_its_interval_is_called_none() -> None:
    ours, theirs = ({"mean": m, "ci95": 0.015, "tasks": 600} for m in (0.76, 0.75))
    result = {"direction": "maximize", "winner": {"test": ours}, "baseline": {"test": theirs}}
    assert comparison(result) == "no clear difference (1.0 ± 2.1 points better)"
    worse = result | {"direction": "minimize", "baseline": {"test": ours | {"mean": 0.7}}}
    assert comparison(worse) == "0.060 ± 0.021 worse"
    assert comparison(result | {"baseline": None}) is None


def test_numbers_in_words() -> None:
    assert percent(0.7549, 0.0142) == "75.5 ± 1.4 %"
    assert percent(0.7549) == "75.5 %"
    assert squared_error(0.12345, 0.0102) == "0.123 ± 0.010"
    assert squared_error(3.21449, 0.341) == "3.21 ± 0.34"
    assert squared_error(0.0) == "0"
    assert squared_error(0.0123456) == "0.0123"
    assert score_text(None, None, "maximize") == "–"
    assert score_text(float("nan"), 0.1, "minimize") == "–"
    assert score_text(0.5, float("nan"), "maximize") == "50.0 %"
    seconds = [0.04, 9.97, 59.6, 200, 7500, 3600, 86400 * 2 + 3600, 3599.9]
    assert [duration(s) for s in seconds] == [
        "0.0 s",
        "10 s",
        "1 min",
        "3 min 20 s",
        "2 h 5 min",
        "1 h",
        "2 d 1 h",
        "1 h",
    ]
    assert one_line("a\n b\x1b[0m\tc") == "a b [0m c"


def test_candidates_in_words() -> None:
    rates = {"mode": "searched", "groups": "layer", "values": [[0.1, 0.02], [0.05, 0.001]]}
    candidate = {
        "learner": "maml",
        "hyper": {"inner_steps": 2, "order": "first", "inner_lr": rates},
        "backbone": "conv",
        "architecture": {"depth": 2, "width": 32, "conv1/kernel": 3, "conv2/kernel": 5}
        | {"conv1/skip": False, "conv2/skip": False},
        "parameters": 28736,
        "macs": 1,
    }
    assert candidate_text(candidate) == (
        "maml (inner_steps 2, order first, inner_lr searched (layer) 0.1 0.02 | 0.05 0.001) "
        "on conv (depth 2, width 32, kernel 3-5, skip no), 28,736 parameters"
    )
    wide = rates | {"values": [[0.1] * 7, [0.02] * 7]}
    assert value_text(wide) == "searched (layer) 2 steps × 7 groups, 0.02 … 0.1"
    learned = {"mode": "learned", "groups": "scalar", "values": [[0.0204689]]}
    assert value_text(learned) == "learned (scalar) from 0.0205"
    refined = rates | {"mode": "refined"}
    assert value_text(refined) == "refined (layer) from 0.1 0.02 | 0.05 0.001"
