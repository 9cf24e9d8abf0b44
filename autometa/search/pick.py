"""Another trial than the winner, picked by a rule after the search, as ``result.json`` would say.

Scores are the rescored ones of finalists; other trials have the search's, less the optimism that
it had for the finalists and at most the winner's, so that the two can be compared; of equals the
winner comes first, then the finalists. Meta-test isn't touched again: who looks at it once for each
pick chooses by it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import optuna

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.finalists import as_searched
from autometa.search.folder import StudyFolder
from autometa.search.plan import spec_of
from autometa.search.rule import choose, parse_rule
from autometa.search.study import COMPLETE, MAXIMIZE, TrialRow, rows_of


def pick(
    study: optuna.Study,
    config: StudyConfig,
    folder: StudyFolder,
    result: dict[str, Any],
    text: str,
) -> dict[str, Any]:
    """The entry of the trial that a rule picks; it may be the winner's.

    Where it is no finalist, ``rescored`` is None and its weights are those of the search.

    Raises:
        ConfigError: The text is no rule.
        StudyError: No trial meets it, or the weights of the one that does are gone.
    """
    rule, direction = parse_rule(text), result["direction"]
    rows = [row for row in rows_of(study) if row.end == COMPLETE and row.score is not None]
    known = {entry["name"]: entry for entry in result["finalists"]}
    rows.sort(key=lambda row: (row.name != result["winner"]["name"], row.name not in known))
    chosen = choose(rule, rows, worth(rows, result), direction)
    if chosen.name == result["winner"]["name"]:
        return {**result["winner"], "picked": text}
    entry = known.get(chosen.name, {"name": chosen.name, "search_score": chosen.score})
    rescored = entry.get("rescored")
    label, seed = chosen.name, config.seed
    if rescored:
        best = max if direction == MAXIMIZE else min
        seed = int(best(rescored["seeds"], key=lambda each: rescored["seeds"][each]))
        label = f"{chosen.name}-seed{seed}"
    checkpoint = folder.checkpoint(label)
    if not checkpoint.exists():
        raise StudyError(
            f"--pick {text!r} picks {chosen.name}, whose weights aren't there: {checkpoint}"
        )
    spec = as_searched(spec_of(config, chosen.candidate), chosen)
    return {
        **entry,
        "picked": text,
        "rescored": rescored,
        "confirmed": None,
        "candidate": chosen.candidate,
        "spec": replace(spec, seed=seed).to_json(),
        "exported_seed": seed,
        "checkpoint": str(checkpoint.relative_to(folder.path)),
        "test": None,
    }


def worth(rows: Sequence[TrialRow], result: dict[str, Any]) -> dict[str, float]:
    """Name → score: rescored, or what the search's is worth beside those."""
    sign, limit = (1.0, min) if result["direction"] == MAXIMIZE else (-1.0, max)
    optimism = sign * result["selection"]["optimism"]["finalists"]["mean"]
    most = result["winner"]["rescored"]["mean"]
    searched = {row.name: limit((row.score or 0.0) - optimism, most) for row in rows}
    return searched | {each["name"]: each["rescored"]["mean"] for each in result["finalists"]}
