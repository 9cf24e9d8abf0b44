"""Which finalist wins, so that the score that is told of it isn't the maximum of noise.

1. All finalists are retrained and scored on the same ``finalists.tasks`` fresh tasks.
2. Those that can't be told from the leader (it isn't better with a probability of 95 %, by
   ``paired.py``) are scored on as many new tasks again, until the leader stands alone or
   ``finalists.max_tasks`` tasks are spent. The leader of the last round wins.
3. The winner and the baseline are scored once more, on tasks that chose nothing: that score is
   the one to believe. Meta-test comes after it, once.

It is successive halving's idea (Jamieson and Talwalkar, AISTATS 2016) with a test in place of the
half. With a flat prior a probability needs no correction for how often one looked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from autometa.errors import StudyError
from autometa.search.finalists import Run, Scorer, Standing, Step, prolonged, standing
from autometa.search.paired import Estimate, average, difference
from autometa.search.study import MAXIMIZE

SEPARATED = 0.95
"""Probability of being better from which a leader stands alone: intervals are 95 % too."""


@dataclass(frozen=True)
class Selection:
    """How the winner was found.

    Attributes:
        standings: Name → finalist with all its tasks, in the order of the search.
        first: The same after the first round, whose tasks chose none of them.
        rounds: Names scored in each round, and its number of tasks.
    """

    standings: dict[str, Standing]
    first: dict[str, Standing]
    winner: str
    runner_up: str | None
    rounds: list[dict[str, Any]]


def select(
    runs: Mapping[str, list[Run]],
    outcomes: Mapping[str, Any],
    score: Scorer,
    direction: str,
) -> Selection:
    """Score the finalists in rounds, from the outcomes of the first on.

    Raises:
        StudyError: No seed of any finalist could be trained and scored.
    """
    settings = score.config.finalists
    tasks, most = settings.tasks, settings.most_tasks
    standings = _standing(runs, outcomes)
    first, lead = standings, leaders(standings, direction)
    rounds = [{"tasks": tasks, "names": list(standings)}]
    while len(lead) > 1 and tasks < most:
        more = min(tasks, most - tasks)
        title = f"round-{len(rounds) + 1}"
        step = Step(title, "validation", f"rescore-{len(rounds) + 1}", more)
        again = [run for name in lead for run in standings[name].runs]
        outcomes = score(step, again)
        scored = {name: prolonged(standings[name], outcomes) for name in lead}
        dropped = {name for name, each in scored.items() if each is None}
        standings = {k: scored.get(k) or v for k, v in standings.items() if k not in dropped}
        rounds.append({"tasks": more, "names": list(lead)})
        tasks += more
        lead = leaders({n: standings[n] for n in lead if n not in dropped}, direction)
    if not lead:
        failed = next(each["failed"] for each in outcomes.values() if "failed" in each)
        raise StudyError(f"every retraining of every finalist failed, the first with: {failed}")
    return Selection(standings, first, lead[0], runner_up(standings, lead[0], direction), rounds)


def _standing(runs: Mapping[str, list[Run]], outcomes: Mapping[str, Any]) -> dict[str, Standing]:
    """Those of whom a seed succeeded."""
    found = {name: standing(name, each, outcomes) for name, each in runs.items()}
    return {name: each for name, each in found.items() if each is not None}


def leaders(standings: Mapping[str, Standing], direction: str) -> list[str]:
    """The best and those that can't be told from it, best first."""
    ranked = sorted(standings, key=lambda name: -_gain(standings[name], direction))
    return [
        name
        for name in ranked
        if name == ranked[0]
        or better(standings[ranked[0]], standings[name], direction).positive < SEPARATED
    ]


def runner_up(standings: Mapping[str, Standing], winner: str, direction: str) -> str | None:
    """Who came second: of those that stayed longest in the rounds the best."""
    others = [name for name in standings if name != winner]
    key = {name: (standings[name].tasks, _gain(standings[name], direction)) for name in others}
    return max(others, key=lambda name: key[name], default=None)


def _gain(each: Standing, direction: str) -> float:
    return each.estimate.mean if direction == MAXIMIZE else -each.estimate.mean


def better(ours: Standing, theirs: Standing, direction: str) -> Estimate:
    """By how much one is better, in the metric's unit, on the tasks that both have."""
    pair = (ours, theirs) if direction == MAXIMIZE else (theirs, ours)
    return difference(pair[0].scores, pair[1].scores)


def optimism(
    searched: Mapping[str, float], fresh: Mapping[str, Standing], direction: str
) -> Estimate:
    """By how much the search's scores were too good, on average over these configurations.

    The search's scores are given, so what is uncertain is what the configurations are worth:
    ``fresh`` are their standings on tasks that chose nothing among them.
    """
    worth = average([fresh[name].scores for name in searched])
    told = sum(searched.values()) / len(searched)
    sign = 1.0 if direction == MAXIMIZE else -1.0
    return Estimate(sign * (told - worth.mean), worth.error, worth.freedom)


def compared(selection: Selection, direction: str) -> dict[str, Any] | None:
    """Winner against runner-up as ``result.json`` keeps it."""
    if selection.runner_up is None:
        return None
    winner, other = (selection.standings[n] for n in (selection.winner, selection.runner_up))
    found = better(winner, other, direction)
    return {
        "name": other.name,
        "better": found.mean,
        "ci95": found.ci95,
        "probability": found.positive,
        "tasks": min(winner.tasks, other.tasks),
    }
