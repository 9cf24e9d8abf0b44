"""What ``autometa status`` prints: a study as it stands, running or not."""

from __future__ import annotations

from collections import Counter
from typing import Any

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.text import Text

from autometa.config import StudyConfig
from autometa.report.board import Line
from autometa.report.candidates import candidate_text
from autometa.report.json_lines import finite
from autometa.report.text import (
    baseline_name,
    comparison,
    counts_text,
    duration,
    front_text,
    runner_up_text,
    score_text,
    validation_text,
)
from autometa.report.trial_table import trial_table
from autometa.search.study import (
    COMPLETE,
    MAXIMIZE,
    METRICS,
    MINIMIZE,
    REJECTED,
    RUNNING,
    TrialRow,
    best_first,
    counted,
)

BEST_ROWS = 10


def status_table(
    config: StudyConfig,
    rows: list[TrialRow],
    result: dict[str, Any] | None,
    running: bool,
    direction: str | None = None,
) -> RenderableType:
    """State, counts, best so far, the running and the best trials; the winner, if there is one.

    Args:
        direction: The study's; without it, it is the result's, or what the tasks suggest.
    """
    direction = direction or direction_of(config, result)
    parts: list[RenderableType] = [
        _state(config, rows, result, running),
        Text(_counts(config, rows)),
        _best(rows, direction),
    ]
    if chosen := _chosen(rows, direction, running):
        parts.append(_Trials(chosen, config.budget.iterations, direction))
    if result:
        parts.extend(Text(line) for line in _outcome(result))
    return Group(*parts)


def status_json(
    config: StudyConfig,
    rows: list[TrialRow],
    result: dict[str, Any] | None,
    running: bool,
    direction: str,
    attributes: dict[str, Any],
) -> dict[str, Any]:
    """The same for programs.

    Args:
        attributes: The study's in its storage.
    """
    trials = [trial_json(row) for row in rows if row.end != REJECTED]
    best = next(iter(best_first(rows, direction)), None)
    state = "finished" if result else "running" if running else "interrupted"
    told = {
        "name": config.name,
        "folder": str(config.folder),
        "state": state,
        "phase": attributes.get("phase") if state == "running" else None,
        "direction": direction,
        "metric": METRICS[direction],
        "budget": config.budget.model_dump(mode="json"),
        "counted": counted(rows),
        "search_s": attributes.get("search_s", 0.0),
        "counts": dict(Counter(row.end for row in rows)),
        "best": trial_json(best) if best else None,
        "trials": trials,
        "result": result,
    }
    found: dict[str, Any] = finite(told)
    return found


def trial_json(row: TrialRow) -> dict[str, Any]:
    """A trial without what only a worker needs of it."""
    own = {name: getattr(row, name) for name in ("number", "name", "learner", "backbone")}
    left_out = {*own, "candidate", "curve"}
    curve = [[iteration, score] for iteration, score in row.curve.items()]
    return own | {k: v for k, v in vars(row).items() if k not in left_out} | {"curve": curve}


def direction_of(config: StudyConfig, result: dict[str, Any] | None) -> str:
    """Regression has tasks of one way: its score is an error, to be minimised."""
    if result:
        return str(result["direction"])
    return MINIMIZE if config.task.ways == 1 else MAXIMIZE


def state_text(
    config: StudyConfig, rows: list[TrialRow], result: dict[str, Any] | None, running: bool
) -> str:
    """``running: trials``, ``finished`` or how to go on."""
    if result:
        return "finished"
    if running:
        spent = counted(rows) >= config.budget.trials
        return "running: finalists and meta-test" if spent else "running: trials"
    return f"interrupted: go on with `autometa resume {config.folder}`"


def _state(
    config: StudyConfig, rows: list[TrialRow], result: dict[str, Any] | None, running: bool
) -> Text:
    style = "green" if result else "cyan" if running else "yellow"
    text = state_text(config, rows, result, running)
    return Text.assemble((config.name, "bold"), "  ", (text, style))


def _counts(config: StudyConfig, rows: list[TrialRow]) -> str:
    counts = Counter(row.end for row in rows)
    live = f", {counts[RUNNING]} unfinished" if counts[RUNNING] else ""
    return f"trials {counted(rows)}/{config.budget.trials}: {counts_text(counts)}{live}"


def _best(rows: list[TrialRow], direction: str) -> Text:
    best = next(iter(best_first(rows, direction)), None)
    if best is None:
        return Text("best: no trial is complete yet")
    score = score_text(best.score, best.ci95, direction)
    return Text.assemble("best ", (score, "bold green"), f"  {best.name}")


def _chosen(rows: list[TrialRow], direction: str, running: bool) -> list[Line]:
    """The trials under way, then the best ten: complete ones first, then those cut."""
    sign = -1.0 if direction == MAXIMIZE else 1.0
    ended = [row for row in rows if row.end not in (RUNNING, REJECTED) and row.score is not None]
    ended.sort(key=lambda row: (row.end != COMPLETE, sign * (row.score or 0.0), row.number))
    lines = [Line.of(row) for row in rows if row.end == RUNNING]
    for line in lines:
        line.end = RUNNING if running else "unfinished"
    return [*lines, *(Line.of(row) for row in ended[:BEST_ROWS])]


def _outcome(result: dict[str, Any]) -> list[str]:
    direction, winner = result["direction"], result["winner"]
    runner_up = runner_up_text(result)
    lines = [
        f"winner: {winner['name']}, {candidate_text(winner['candidate'])}",
        *([f"choice: {runner_up}"] if runner_up else []),
        f"meta-validation: {validation_text(result)}",
        f"meta-test: {_tested(winner, direction)}",
    ]
    if baseline := result.get("baseline"):
        lines.append(
            f"{baseline_name(baseline)}: {_tested(baseline, direction)}; "
            f"the winner: {comparison(result)}"
        )
    if result["front"]:
        lines.append(front_text(result))
    return [*lines, f"it took {duration(result['cost']['total_s'])}"]


def _tested(entry: dict[str, Any], direction: str) -> str:
    test = entry["test"]
    return f"{score_text(test['mean'], test['ci95'], direction)} on {test['tasks']:,} tasks"


class _Trials:
    """The table, laid out when the console's width is known."""

    def __init__(self, lines: list[Line], iterations: int, direction: str) -> None:
        self._lines = lines
        self._iterations = iterations
        self._direction = direction

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield trial_table(self._lines, self._iterations, self._direction, options.max_width)
