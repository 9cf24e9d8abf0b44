"""Scores, durations and results in words."""

from __future__ import annotations

import math
from typing import Any

from autometa.report.candidates import candidate_text
from autometa.search.events import Links, Phase
from autometa.search.folder import StudyFolder
from autometa.search.study import COMPLETE, DIVERGED, FAILED, MAXIMIZE, PRUNED, REJECTED

NOTHING = "–"
ENDS = (COMPLETE, PRUNED, DIVERGED, FAILED, REJECTED)
LOAD = (
    "from best import load",
    "predict = load().adapt(support_x, support_y)",
    "output = predict(query_x)",
)


def percent(mean: float, ci95: float | None = None) -> str:
    """An accuracy: ``75.5 ± 1.4 %``."""
    return _interval(100 * mean, None if ci95 is None else 100 * ci95, 1) + " %"


def squared_error(mean: float, ci95: float | None = None) -> str:
    """A mean squared error, to the second digit of its interval: ``0.123 ± 0.010``."""
    return _interval(mean, ci95, _decimals(ci95 / 10 if ci95 else mean / 100))


def score_text(score: float | None, ci95: float | None, direction: str) -> str:
    """A score as the metric wants it: accuracies are maximised, errors minimised."""
    if score is None or not math.isfinite(score):
        return NOTHING
    known = ci95 if ci95 is not None and math.isfinite(ci95) else None
    return percent(score, known) if direction == MAXIMIZE else squared_error(score, known)


def _interval(mean: float, ci95: float | None, decimals: int) -> str:
    text = f"{mean:.{decimals}f}"
    return text if ci95 is None else f"{text} ± {ci95:.{decimals}f}"


def _decimals(smallest: float) -> int:
    """Decimals that show a number of this size; a score of exactly 0 needs none."""
    size = abs(smallest)
    return min(max(-math.floor(math.log10(size) + 1e-9), 0), 6) if size else 0


def duration(seconds: float) -> str:
    """The two largest units: ``3 min 20 s``, ``2 h 5 min``."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    total = round(seconds)
    for unit, size, below, part in (("d", 86400, "h", 3600), ("h", 3600, "min", 60)):
        if total >= size:
            return _two(total // size, unit, total % size // part, below)
    return _two(total // 60, "min", total % 60, "s") if total >= 60 else f"{total} s"


def _two(large: int, unit: str, small: int, below: str) -> str:
    return f"{large} {unit} {small} {below}" if small else f"{large} {unit}"


def one_line(text: str) -> str:
    """Text of unknown origin as one printable line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def counts_text(counts: dict[str, int]) -> str:
    """``3 complete, 9 pruned, 5 rejected (over a limit)``; ends without trials are left out."""
    limit = {REJECTED: " (over a limit)"}
    parts = [f"{counts[end]} {end}{limit.get(end, '')}" for end in ENDS if counts.get(end)]
    return ", ".join(parts) or "none"


def phase_text(phase: Phase) -> str:
    """``finalists 3/6 protonet-conv-004-seed1``."""
    return f"{phase.title} {phase.done}/{phase.total} {one_line(phase.detail)}".rstrip()


TABS = "  Cluster: each trial by name, and what it takes; Metrics: needs Prometheus and Grafana"


def dashboard_text(links: Links, *, secret: bool) -> str:
    """Where Ray's dashboard is; with its token if secrets may be told, else whence that is."""
    if links.dashboard is None:
        return ""
    if links.login and secret:
        return f"dashboard {links.login}"
    asks = " (its token: ray get-auth-token)" if links.login else ""
    return f"dashboard {links.dashboard}{asks}"


def baseline_name(entry: dict[str, Any]) -> str:
    """``published protonet on conv``."""
    return f"published {entry['candidate']['learner']} on {entry['candidate']['backbone']}"


def comparison(result: dict[str, Any]) -> str | None:
    """How the winner does against the baseline on meta-test, or None without a baseline.

    The interval is that of two independent scores: with tasks in common it is on the safe side.
    """
    baseline = result.get("baseline")
    if baseline is None:
        return None
    maximize = result["direction"] == MAXIMIZE
    ours, theirs = result["winner"]["test"], baseline["test"]
    better = (ours["mean"] - theirs["mean"]) * (1 if maximize else -1)
    ci95 = math.hypot(ours["ci95"], theirs["ci95"])
    word = "better" if better > 0 else "worse"
    amount = _amount(abs(better), ci95, maximize)
    return f"{amount} {word}" if abs(better) > ci95 else f"no clear difference ({amount} {word})"


def _amount(difference: float, ci95: float, maximize: bool) -> str:
    if maximize:
        return _interval(100 * difference, 100 * ci95, 1) + " points"
    return squared_error(difference, ci95)


def probability_text(probability: float) -> str:
    """``0.87``; what rounds to certainty is told as a bound."""
    return "over 0.99" if probability > 0.99 else f"{probability:.2f}"


def runner_up_text(result: dict[str, Any]) -> str | None:
    """How sure it is that the winner beats the runner-up; None where there was no other."""
    other = result["selection"]["runner_up"]
    if other is None:
        return None
    amount = _amount(abs(other["better"]), other["ci95"], result["direction"] == MAXIMIZE)
    word = "better" if other["better"] >= 0 else "worse"
    return (
        f"{amount} {word} than {other['name']} on {other['tasks']:,} meta-validation tasks in "
        f"common; it beats it with a probability of {probability_text(other['probability'])}"
    )


def optimism_text(found: dict[str, float], direction: str) -> str:
    """By how much scores of the search were too good: ``+1.2 ± 0.9 points``."""
    amount = _amount(abs(found["mean"]), found["ci95"], direction == MAXIMIZE)
    return f"{'-' if found['mean'] < 0 else '+'}{amount}"


def validation_text(result: dict[str, Any]) -> str:
    """The winner's score on meta-validation tasks that chose nothing, and the search's optimism."""
    direction, found = result["direction"], result["winner"]["confirmed"]
    optimism = result["selection"]["optimism"]
    return (
        f"{result['metric']} {score_text(found['mean'], found['ci95'], direction)} on "
        f"{found['tasks']:,} tasks that chose nothing; optimism of the search "
        f"{optimism_text(optimism['winner'], direction)} "
        f"(all finalists: {optimism_text(optimism['finalists'], direction)})"
    )


def front_text(result: dict[str, Any]) -> str:
    """How many trials there are to choose from, and how."""
    objectives, count = " and ".join(result["front"][0]["values"]), len(result["front"])
    return (
        f"Front of {objectives}: {count} trial{'s' if count > 1 else ''} that no other one beats "
        "in all; `export --pick RULE` takes another than the winner."
    )


def summary(result: dict[str, Any], folder: StudyFolder) -> list[str]:
    """What came out of a study, in a few sentences."""
    runner_up = runner_up_text(result)
    return [
        f"Study {folder.path} has ended.",
        f"Winner: {result['winner']['name']}, {candidate_text(result['winner']['candidate'])}.",
        *([f"Choice: {runner_up}."] if runner_up else []),
        f"Meta-validation: {validation_text(result)}.",
        f"Meta-test: {_test_text(result)}.",
        *([front_text(result)] if result["front"] else []),
        f"Spent: {_cost_text(result)}.",
    ]


def _test_text(result: dict[str, Any]) -> str:
    direction, test = result["direction"], result["winner"]["test"]
    ours = score_text(test["mean"], test["ci95"], direction)
    text = f"{result['metric']} {ours} on {test['tasks']:,} tasks"
    baseline = result.get("baseline")
    if baseline is None:
        return text
    theirs = score_text(baseline["test"]["mean"], baseline["test"]["ci95"], direction)
    return f"{text}; {baseline_name(baseline)} has {theirs}: {comparison(result)}"


def _cost_text(result: dict[str, Any]) -> str:
    cost = result["cost"]
    return (
        f"{duration(cost['total_s'])}, {duration(cost['search_s'])} of it for the search; "
        f"{duration(cost['compute_s'])} of computing by all workers; "
        f"trials: {counts_text(cost['trials'])}"
    )


def next_steps(folder: StudyFolder, program: str = "autometa") -> list[str]:
    """Where things lie, and the commands that one would type next."""
    return [
        f"report: {folder.report} (open it in a browser; it needs no network)",
        f"bundle: {folder.bundle} (copy it anywhere; it needs torch and safetensors only)",
        f"use it: {'; '.join(LOAD[:2])}",
        "next:",
        f"  {program} export {folder.path} --to ../my_project/best",
        f"  {program} export {folder.path} --config-only yaml",
        f"  {program} status {folder.path}",
    ]
