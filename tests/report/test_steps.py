"""Bars for what takes a while."""

from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from autometa.report.steps import StepsView
from autometa.search.events import Phase, TrialStarted


@pytest.mark.parametrize("terminal", [True, False])
def test_bars_are_for_terminals_and_leave_nothing_behind(terminal: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=terminal)
    with StepsView(console) as view:
        view(Phase("report", 0, 2, "trials.csv"))
        view(TrialStarted(0, "maml-conv-000", "maml", "conv"))
        view(Phase("report", 1, 2, "[b]page[/b]\n"))
        view(Phase("pictures", 3, 4))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    if not terminal:
        assert text.strip() == ""
        return
    plain = re.sub(r"\x1b\[[\d;?]*[A-Za-z]", "", text)
    assert re.search(r"report .*1/2 0:00:00 \[b\]page\[/b\]", plain)
    assert re.search(r"pictures .*3/4", plain)
    assert "maml" not in plain
    assert text.rstrip().endswith("\x1b[2K"), "the lines are erased"
