"""Findings for the eye."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.table import Table
from rich.text import Text

from autometa.doctor.finding import OK, PROBLEM, WARNING, Finding

STYLES = {OK: "green", WARNING: "yellow", PROBLEM: "bold red"}


def findings_table(findings: Iterable[Finding]) -> Table:
    """A line for each finding; what to do stands below what was found."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("check", no_wrap=True)
    table.add_column("state", no_wrap=True)
    table.add_column("found", overflow="fold")
    for each in findings:
        found = Text(each.found)
        if each.advice:
            found.append(f"\n→ {each.advice}", style="bold")
        table.add_row(Text(each.check), Text(each.state, STYLES[each.state]), found)
    return table


def verdict(findings: Iterable[Finding]) -> str:
    """``2 problems, 1 warning`` or that all is well."""
    counts = {state: sum(each.state == state for each in findings) for state in (PROBLEM, WARNING)}
    parts = [f"{n} {state}{'s' if n > 1 else ''}" for state, n in counts.items() if n]
    return ", ".join(parts) or "all is well"
