"""The model card that a bundle carries as ``README.md``."""

from __future__ import annotations

from typing import Any

import autometa
from autometa.backbones.layers import BatchNorm
from autometa.learners.base import REGRESSION, Learner

BATCH_NORM = (
    "Its batch normalisation uses the statistics of the batch at hand, so predictions are "
    "*transductive*: give the queries of a task together, in a mix like the one you expect "
    "(figures here: every class equally often)."
)
OPENING = "from best import load               # this folder's name"


def model_card(
    described: dict[str, Any],
    result: dict[str, Any],
    entry: dict[str, Any],
    learner: Learner[Any],
    opening: str = OPENING,
) -> str:
    """Markdown: what it is, how to use it, what it scored and how that was measured.

    Args:
        opening: The lines of Python that ``load`` comes from.
    """
    task = described["task"]
    return "\n".join(
        [
            f"# {described['name']}",
            "",
            f"A meta-learned model ({type(learner).__name__}: {learner.paper}) for few-shot tasks, "
            f"found by autometa {autometa.__version__}. It serves {_serves(task, learner)}.",
            "",
            "```python",
            opening,
            "learner = load()                    # device=, dtype=",
            "predict = learner.adapt(support_x, support_y)",
            "output = predict(query_x)",
            "```",
            "",
            "It needs torch and safetensors only. " + normalisation(learner),
            "",
            "| | |",
            "|---|---|",
            *_scores(result, entry),
            f"| tasks | {_tasks(task, learner)} of `{described['data']['name']}`{_groups(task)} |",
            f"| backbone | {described['parameters']:,} parameters, {described['macs']:,} "
            f"multiply–accumulates an input{_latency(described)} |",
            f"| training | {described['training']['iterations']:,} meta-iterations, seed "
            f"{described['training']['seed']} |",
            "",
            _how(result, entry)
            + " `config.yaml` has the whole configuration, `results.json` all figures.",
            "",
        ]
    )


def _scores(result: dict[str, Any], entry: dict[str, Any]) -> list[str]:
    """Rows of the table: what was measured of this model, and what wasn't."""
    metric, tested = result["metric"], entry["test"]
    if tested:
        validated = _score(entry["confirmed"], metric)
        return [
            f"| meta-test {metric} | {_score(tested, metric)} |",
            *_baseline(result),
            f"| meta-validation {metric} | {validated} |",
        ]
    searched = _number(entry["search_score"], metric)
    rescored = _score(entry["rescored"], metric) if entry["rescored"] else "not rescored"
    return [
        f"| meta-test {metric} | not tested |",
        f"| meta-validation {metric} | {rescored} |",
        f"| the same in the search, partly luck | {searched} |",
    ]


def _how(result: dict[str, Any], entry: dict[str, Any]) -> str:
    """How the figures were measured, and the weights chosen."""
    chosen = _picked(entry) if "picked" in entry else ""
    if entry["rescored"] is None:
        return chosen + "The weights are those of the search, trained with one seed."
    seeds = len(entry["rescored"]["seeds"])
    weights = f"the weights are those of the best of {seeds} seeds by meta-validation."
    if not entry["test"]:
        return f"{chosen}Intervals are 95 %, over meta-validation tasks and seeds; {weights}"
    return (
        f"{chosen}Intervals are 95 %, over meta-test tasks that neither training nor the search "
        f"saw; {weights} The meta-validation score is the mean of those seeds on tasks that chose "
        f"nothing.{_choice(result)}"
    )


def _picked(entry: dict[str, Any]) -> str:
    untested = "" if entry["test"] else "; it isn't the search's winner, which alone met meta-test"
    return f"Picked by `{entry['picked']}`{untested}. "


def _choice(result: dict[str, Any]) -> str:
    """How sure the search's choice was."""
    other = result["selection"]["runner_up"]
    if other is None:
        return ""
    return (
        f" This configuration beats the second best, {other['name']}, with a probability of "
        f"{min(other['probability'], 0.999):.3g}."
    )


def _serves(task: dict[str, Any], learner: Learner[Any]) -> str:
    if learner.problem == REGRESSION:
        return f"regression to {task['ways']} {'number' if task['ways'] == 1 else 'numbers'}"
    return "any number of ways and shots" if learner.any_ways else f"{task['ways']} ways, any shots"


def _tasks(task: dict[str, Any], learner: Learner[Any]) -> str:
    if learner.problem == REGRESSION:
        return f"{task['shots']}-shot, {task['queries']} queries a task,"
    return f"{task['ways']}-way {task['shots']}-shot, {task['queries']} queries a class,"


def _score(score: dict[str, Any], metric: str) -> str:
    if metric == "accuracy":
        text = f"{100 * score['mean']:.1f} ± {100 * score['ci95']:.1f} %"
    else:
        text = f"{score['mean']:.4f} ± {score['ci95']:.4f}"
    return f"{text} ({score['tasks']} tasks)"


def _number(mean: float, metric: str) -> str:
    return f"{100 * mean:.1f} %" if metric == "accuracy" else f"{mean:.4f}"


def _baseline(result: dict[str, Any]) -> list[str]:
    if result["baseline"] is None:
        return []
    name = result["baseline"]["candidate"]["learner"]
    score = _score(result["baseline"]["test"], result["metric"])
    return [f"| published {name}, same budget | {score} |"]


def _latency(described: dict[str, Any]) -> str:
    if "latency_ms" not in described:
        return ""
    return f", {described['latency_ms']:,} ms to embed one on the machine of the search"


def _groups(task: dict[str, Any]) -> str:
    return ", within one group (alphabet, script)" if task["within_groups"] else ""


def normalisation(learner: Learner[Any]) -> str:
    """What to know of a network whose predictions depend on the other queries; else nothing."""
    batch = any(isinstance(part, BatchNorm) for part in learner.encoder.module.modules())
    return BATCH_NORM if batch else ""
