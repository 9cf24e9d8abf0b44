"""``report.html``: a study on one page that needs no network, its answer first.

Everything is escaped by the template engine; figures travel as JSON with ``<`` written out.
"""

from __future__ import annotations

import base64
import gzip
import math
import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from autometa.config import StudyConfig
from autometa.report.candidates import RateTable, architecture_text, hyper_texts, is_rates
from autometa.report.candidates import rate_tables as rate_tables_of
from autometa.report.closer import closer
from autometa.report.costs import Cost, costs_of, costs_table, hours_text
from autometa.report.drawing import network_picture
from autometa.report.figures import figures
from autometa.report.pareto import front_table
from autometa.report.plots import Plot
from autometa.report.status import state_text
from autometa.report.text import (
    LOAD,
    NOTHING,
    baseline_name,
    comparison,
    counts_text,
    duration,
    one_line,
    runner_up_text,
    score_text,
    validation_text,
)
from autometa.search.folder import StudyFolder, write_atomically
from autometa.search.study import (
    MAXIMIZE,
    REJECTED,
    RUNNING,
    TrialRow,
    best_first,
    rows_of,
    score_direction,
)

if TYPE_CHECKING:
    import optuna

HERE = Path(__file__).parent / "page"


@dataclass(frozen=True)
class Library:
    """A script's licence, and the script in gzip and base 64."""

    licence: str
    text: Markup


def write_report(folder: StudyFolder, study: optuna.Study, config: StudyConfig) -> Path:
    """Write the page of a study as it stands, whole or not at all.

    Raises:
        StudyError: The study's files are damaged.
    """
    write_atomically(folder.report, page(folder, study, config))
    return folder.report


def page(folder: StudyFolder, study: optuna.Study, config: StudyConfig) -> str:
    """The page as text."""
    rows, result, live = rows_of(study), folder.read_result(), folder.running()
    direction = score_direction(study)
    best = leading(rows, result, direction)
    manifest, costs = folder.manifest(), costs_of(rows, result, config.resources)
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"duration": duration, "line": one_line}
    return environment.get_template("report.html.jinja").render(
        style=_own("report.css"),
        script=_own("report.js"),
        library=packed(get_plotlyjs()),
        config=config,
        state=state_text(config, rows, result, live).replace("`", ""),
        task=task_text(config),
        manifest=manifest,
        folder=folder,
        load=LOAD,
        answer=answer(result, costs) if result else None,
        best=best,
        spent_s=float(study.user_attrs.get("search_s", 0.0)),
        plots=figures(
            study,
            rows,
            costs,
            best["name"] if best else None,
            "winner" if result else "best so far",
        ),
        costs=costs_table(costs),
        front=front_table(study, result),
        figure_json=figure_json,
        winner=configuration(best, rows) if best else None,
        network=network_picture(best["candidate"], in_shape(manifest)) if best else None,
        finalists=finalists(result) if result else None,
        closer=closer(folder, result),
        trials=[trial_cells(row, direction, live) for row in rows if row.end != REJECTED],
        counts=counts_text(Counter(row.end for row in rows)),
        rejected=sum(row.end == REJECTED for row in rows),
        metric="accuracy" if direction == MAXIMIZE else "mean squared error",
    )


def _own(name: str) -> Markup:
    return Markup((HERE / name).read_text(encoding="utf-8"))


@cache
def packed(script: str) -> Library:
    """A script as text that the page unpacks: a quarter of its size, and nothing ends the tag."""
    licence = re.match(r"/\*.*?\*/", script, flags=re.S)
    text = base64.b64encode(gzip.compress(script.encode(), 9, mtime=0)).decode()
    return Library(licence[0] if licence else "", Markup(text))


def in_shape(manifest: dict[str, Any]) -> tuple[int, ...] | None:
    """Of the inputs; studies of earlier versions don't tell."""
    shape = manifest.get("data", {}).get("shape")
    return tuple(shape) if shape else None


def figure_json(plot: Plot) -> Markup:
    """A figure for the page, which has its own heading."""
    figure: Any = plot.figure
    return Markup(figure.to_json().replace("<", "\\u003c"))


def leading(
    rows: list[TrialRow], result: dict[str, Any] | None, direction: str
) -> dict[str, Any] | None:
    """Name, candidate and score of the winner, or of the best trial so far, or None."""
    if result:
        winner = result["winner"]
        return {"name": winner["name"], "candidate": winner["candidate"], "score": None}
    best = next(iter(best_first(rows, direction)), None)
    if best is None:
        return None
    score = score_text(best.score, best.ci95, direction)
    return {"name": best.name, "candidate": best.candidate, "score": score}


def answer(result: dict[str, Any], costs: list[Cost]) -> dict[str, Any]:
    """What the search found and what it cost, in words and numbers ready to print."""
    direction, winner, baseline = result["direction"], result["winner"], result.get("baseline")
    gpu = sum(cost.gpu_hours for cost in costs)
    return {
        "name": winner["name"],
        "score": score_text(winner["test"]["mean"], winner["test"]["ci95"], direction),
        "tasks": winner["test"]["tasks"],
        "seeds": len(winner["rescored"]["seeds"]),
        "seed": winner["exported_seed"],
        "baseline": _baseline(baseline, direction) if baseline else None,
        "comparison": comparison(result),
        "confirmed": validation_text(result),
        "cost": result["cost"],
        "cpu_hours": hours_text(sum(cost.cpu_hours for cost in costs)),
        "gpu_hours": hours_text(gpu) if gpu else None,
        "training_s": winner["seconds"] / len(winner["rescored"]["seeds"]),
        "counts": counts_text(result["cost"]["trials"]),
    }


def _baseline(entry: dict[str, Any], direction: str) -> dict[str, Any]:
    return {
        "name": baseline_name(entry),
        "score": score_text(entry["test"]["mean"], entry["test"]["ci95"], direction),
        "tasks": entry["test"]["tasks"],
    }


def configuration(best: dict[str, Any], rows: list[TrialRow]) -> dict[str, Any]:
    """A candidate as tables: hyper-parameters, learning-rate vectors, architecture."""
    candidate = best["candidate"]
    params = next((row.params for row in rows if row.name == best["name"]), {})
    return {
        "name": best["name"],
        "learner": candidate["learner"],
        "backbone": candidate["backbone"],
        "hyper": {
            name: text
            for name, text in hyper_texts(candidate).items()
            if not is_rates(candidate["hyper"][name])
        },
        "rates": [rate_cells(table) for table in rate_tables_of(candidate, params)],
        "architecture": architecture_text(candidate["architecture"]),
        "parameters": candidate["parameters"],
        "macs": candidate["macs"],
        "latency_ms": candidate.get("latency_ms"),
    }


def rate_cells(table: RateTable) -> dict[str, Any]:
    """A learning-rate vector with the depth of each cell's shade, 0 to 100, on a log scale."""
    logs = [math.log(max(rate, 1e-12)) for row in table.rows for rate in row]
    low, span = min(logs), (max(logs) - min(logs)) or 1.0
    rows = [
        [(f"{rate:.3g}", round(100 * (math.log(max(rate, 1e-12)) - low) / span)) for rate in row]
        for row in table.rows
    ]
    return {"table": table, "rows": rows, "shared": len(rows) == 1}


def finalists(result: dict[str, Any]) -> dict[str, Any]:
    """Search score against retrained score of each finalist, and of the baseline."""
    entries = [*result["finalists"], *([result["baseline"]] if result.get("baseline") else [])]
    seeds = sorted({seed for each in entries for seed in each["rescored"]["seeds"]}, key=int)
    rows = [_finalist(each, seeds, result) for each in entries]
    rounds = result["selection"]["rounds"]
    return {
        "seeds": seeds,
        "rows": rows,
        "tasks": rounds[0]["tasks"],
        "rounds": [f"{each['tasks']:,} of {', '.join(each['names'])}" for each in rounds[1:]],
        "runner_up": runner_up_text(result),
        "confirmed": validation_text(result),
    }


def _finalist(entry: dict[str, Any], seeds: list[str], result: dict[str, Any]) -> dict[str, Any]:
    direction, rescored = result["direction"], entry["rescored"]
    means = rescored["seeds"]
    baseline = "search_score" not in entry or entry["search_score"] is None
    return {
        "name": f"baseline: {baseline_name(entry)}" if "candidate" in entry else entry["name"],
        "wins": entry["name"] == result["winner"]["name"],
        "searched": score_text(entry.get("search_score"), None, direction),
        "seeds": [score_text(means[s], None, direction) if s in means else "–" for s in seeds],
        "rescored": score_text(rescored["mean"], rescored["ci95"], direction),
        "tasks": rescored["tasks"],
        "optimism": NOTHING if baseline else _optimism(entry, direction),
        "seconds": entry["seconds"],
    }


def _optimism(entry: dict[str, Any], direction: str) -> str:
    """By how much the search's score was too good: positive in either direction."""
    difference = entry["search_score"] - entry["rescored"]["mean"]
    if direction == MAXIMIZE:
        return f"{100 * difference:+.1f} points"
    return f"{-difference:+.3g}"


def trial_cells(row: TrialRow, direction: str, live: bool) -> dict[str, Any]:
    """One row of the table of trials; nothing runs where no process drives the study."""
    return {
        "row": row,
        "end": "unfinished" if row.end == RUNNING and not live else row.end,
        "score": score_text(row.score, row.ci95, direction),
        "reason": one_line(row.reason),
        "parameters": row.candidate.get("parameters", 0),
    }


def task_text(config: StudyConfig) -> str:
    """``5-way 1-shot on glyphs, 15 queries a class``."""
    task = config.task
    groups = ", classes of one group" if task.within_groups else ""
    ways = f"{task.ways}-way " if task.ways > 1 else ""
    each = "a class" if task.ways > 1 else "a task"
    return f"{ways}{task.shots}-shot on {config.data.name}, {task.queries} queries {each}{groups}"
