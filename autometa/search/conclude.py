"""What follows the trials: finalists, winner, a last look at both with the baseline, meta-test."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import optuna

from autometa.errors import StudyError
from autometa.search.events import Observer
from autometa.search.finalists import (
    CONFIRMATION,
    Outcome,
    Scorer,
    Standing,
    Step,
    as_searched,
    runs_of,
    standing,
)
from autometa.search.folder import StudyFolder
from autometa.search.front import candidates as ranked
from autometa.search.front import described
from autometa.search.selection import Selection, compared, optimism, select
from autometa.search.study import METRICS, TrialRow, rows_of, spent_s

if TYPE_CHECKING:
    from autometa.search.plan import Plan

BASELINE = "baseline"


def conclude(
    planned: Plan, folder: StudyFolder, study: optuna.Study, observer: Observer
) -> dict[str, Any]:
    """Finalists, winner and meta-test, as ``result.json`` keeps them.

    Raises:
        StudyError: No trial was complete, or none can be trained again and scored.
    """
    started, config, direction = time.monotonic(), planned.config, planned.direction
    trials = {row.name: row for row in rows_of(study)}
    candidates = contenders(study, config.finalists.count)
    rivals = list(candidates)
    if planned.baseline:
        candidates[BASELINE] = asdict(planned.baseline)
    specs = {name: planned.spec(each) for name, each in candidates.items()}
    runs = {
        name: runs_of(name, as_searched(spec, trials.get(name)), config)
        for name, spec in specs.items()
    }
    score = Scorer(folder, config, observer)
    first = Step("finalists", "validation", "rescore", config.finalists.tasks, train=True)
    outcomes = score(first, [run for each in runs.values() for run in each])
    chosen = select({name: runs[name] for name in rivals}, outcomes, score, direction)
    published = standing(BASELINE, runs[BASELINE], outcomes) if planned.baseline else None
    told = [each for each in (chosen.standings[chosen.winner], published) if each]
    confirmed = _confirmed(told, score)
    tested = _tested(told, score, direction)
    entries = {
        each.name: _entry(each, trials.get(each.name))
        | {"confirmed": confirmed[each.name].described(), "candidate": candidates[each.name]}
        | tested[each.name]
        for each in told
    }
    return {
        "direction": direction,
        "metric": METRICS[direction],
        "winner": entries[chosen.winner],
        "baseline": entries.get(BASELINE),
        "finalists": [_entry(each, trials.get(each.name)) for each in chosen.standings.values()],
        "front": described(study, set(chosen.standings)),
        "selection": _selection(chosen, confirmed[chosen.winner], trials, direction),
        "cost": _cost(study, [*chosen.standings.values(), *told[1:]], time.monotonic() - started),
    }


def contenders(study: optuna.Study, count: int) -> dict[str, dict[str, Any]]:
    """Name → candidate of the finalists.

    Raises:
        StudyError: No trial was complete.
    """
    best = ranked(study)[:count]
    if not best:
        raise StudyError(
            "no trial was trained to the full budget, so there is no finalist: "
            "give the search more trials or time"
        )
    return {row.name: row.candidate for row in best}


def _confirmed(told: list[Standing], score: Scorer) -> dict[str, Standing]:
    """Name → standing on meta-validation tasks that chose nothing, all its seeds."""
    step = Step("confirmation", *CONFIRMATION, score.config.finalists.tasks)
    outcomes = _sound(step, score(step, [run for each in told for run in each.runs]))
    found = [standing(each.name, each.runs, outcomes) for each in told]
    return {each.name: each for each in found if each is not None}


def _tested(told: list[Standing], score: Scorer, direction: str) -> dict[str, dict[str, Any]]:
    """Name → the best seed with its score on meta-test tasks, the same tasks for all."""
    best = {each.name: each.best_run(direction) for each in told}
    step = Step("meta-test", "test", "meta-test", score.config.test.tasks)
    outcomes = _sound(step, score(step, best.values()))
    home = score.folder
    return {
        name: {
            "spec": run.spec.to_json(),
            "exported_seed": run.seed,
            "checkpoint": str(home.checkpoint(run.label).relative_to(home.path)),
            "test": _brief(outcomes[run.label]),
        }
        for name, run in best.items()
    }


def _sound(step: Step, outcomes: dict[str, Outcome]) -> dict[str, Outcome]:
    for label, outcome in outcomes.items():
        if "failed" in outcome:
            raise StudyError(f"{label} has no score in {step.title}: {outcome['failed']}")
    return outcomes


def _brief(outcome: Outcome) -> dict[str, Any]:
    """Without the scores of single tasks, which the files in ``finalists/`` keep."""
    return {name: outcome[name] for name in ("mean", "ci95", "tasks", "loss", "ece")}


def _entry(each: Standing, trial: TrialRow | None) -> dict[str, Any]:
    return {
        "name": each.name,
        "search_score": trial.score if trial else None,
        "rescored": each.described(),
        "seconds": each.seconds,
    }


def _selection(
    chosen: Selection, confirmed: Standing, trials: Mapping[str, TrialRow], direction: str
) -> dict[str, Any]:
    """How sure the choice is, and by how much the search's own scores were too good."""
    searched = {name: float(trials[name].score or 0.0) for name in chosen.first}
    winner = {chosen.winner: searched[chosen.winner]}
    ours = optimism(winner, {chosen.winner: confirmed}, direction)
    all_ = optimism(searched, chosen.first, direction)
    return {
        "rounds": chosen.rounds,
        "runner_up": compared(chosen, direction),
        "optimism": {
            "winner": {"mean": ours.mean, "ci95": ours.ci95},
            "finalists": {"mean": all_.mean, "ci95": all_.ci95},
        },
    }


def _cost(study: optuna.Study, standings: Iterable[Standing], finalists_s: float) -> dict[str, Any]:
    trials = rows_of(study)
    return {
        "search_s": spent_s(study),
        "total_s": spent_s(study) + finalists_s,
        "compute_s": sum(t.seconds for t in trials) + sum(s.seconds for s in standings),
        "trials": dict(Counter(trial.end for trial in trials)),
    }
