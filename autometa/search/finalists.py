"""The best configurations, retrained on several seeds and rescored; the winner meets meta-test.

The search's best score is the maximum of noise. So the finalists are trained anew, scored on fresh
meta-validation tasks, and only the winner (and the baseline, which was never chosen) is scored on
meta-test, once.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import ray

from autometa.config import StudyConfig
from autometa.errors import StudyError
from autometa.search.events import Observer, Phase
from autometa.search.folder import StudyFolder, write_json
from autometa.search.study import MAXIMIZE, TrialRow, best_first, trial_name
from autometa.search.tuner import trial_resources
from autometa.search.worker import reason_of, use_threads
from autometa.trial import Score, TrialSpec, score_checkpoint, train_to_end


@dataclass(frozen=True)
class Run:
    """One retraining: a configuration and a seed."""

    name: str
    seed: int
    spec: TrialSpec

    @property
    def label(self) -> str:
        return f"{self.name}-seed{self.seed}"


def contenders(
    rows: Iterable[TrialRow], config: StudyConfig, direction: str
) -> list[tuple[str, dict[str, Any]]]:
    """(name, candidate) of the finalists, best first.

    Raises:
        StudyError: No trial was complete.
    """
    best = best_first(rows, direction)[: config.finalists.count]
    if not best:
        raise StudyError(
            "no trial was trained to the full budget, so there is no finalist: "
            "give the search more trials or time"
        )
    return [(trial_name(r.number, r.candidate), r.candidate) for r in best]


def retrain(
    runs: Iterable[Run], folder: StudyFolder, config: StudyConfig, observer: Observer, title: str
) -> dict[str, dict[str, Any]]:
    """Label → the outcome of each run; runs that an earlier process finished are kept."""
    return _each(runs, folder, config, observer, title, _retrain)


def meta_test(
    runs: Iterable[Run], folder: StudyFolder, config: StudyConfig, observer: Observer
) -> dict[str, dict[str, Any]]:
    """Label → score on meta-test tasks, the same tasks for every run."""
    return _each(runs, folder, config, observer, "meta-test", _meta_test)


def _each(
    runs: Iterable[Run],
    folder: StudyFolder,
    config: StudyConfig,
    observer: Observer,
    title: str,
    work: Any,
) -> dict[str, dict[str, Any]]:
    runs = list(runs)
    files = {run.label: folder.finalist(f"{title}-{run.label}") for run in runs}
    outcomes = {label: folder.read_json(path) for label, path in files.items()}
    resources = trial_resources(config)
    cpus, gpus = resources["CPU"], resources.get("GPU", 0)
    remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(work)
    pending = {
        remote.options(name=f"{title} {run.label}").remote(
            run.spec.to_json(),
            str(folder.checkpoint(run.label).absolute()),
            tasks=_tasks(config, title),
            cpus=cpus,
        ): run.label
        for run in runs
        if outcomes[run.label] is None
    }
    observer(Phase(title, len(runs) - len(pending), len(runs)))
    while pending:
        (ready,), _ = ray.wait(list(pending), num_returns=1)
        label = pending.pop(ready)
        outcomes[label] = ray.get(ready)
        write_json(files[label], outcomes[label])
        observer(Phase(title, len(runs) - len(pending), len(runs), label))
    return {label: outcome for label, outcome in outcomes.items() if outcome is not None}


def _tasks(config: StudyConfig, title: str) -> int:
    return config.test.tasks if title == "meta-test" else config.finalists.tasks


def _retrain(
    spec_json: dict[str, Any], checkpoint: str, *, tasks: int, cpus: float
) -> dict[str, Any]:
    use_threads(cpus)
    spec = TrialSpec.from_json(spec_json)
    try:
        seconds = train_to_end(spec, Path(checkpoint))
        score = score_checkpoint(spec, Path(checkpoint), "validation", "rescore", tasks)
    except Exception as error:  # one seed that diverges must not cost the others
        return {"failed": reason_of(error)}
    return asdict(score) | {"seconds": seconds}


def _meta_test(
    spec_json: dict[str, Any], checkpoint: str, *, tasks: int, cpus: float
) -> dict[str, Any]:
    use_threads(cpus)
    spec = TrialSpec.from_json(spec_json)
    return asdict(score_checkpoint(spec, Path(checkpoint), "test", "meta-test", tasks))


def runs_of(name: str, spec: TrialSpec, config: StudyConfig) -> list[Run]:
    """One run a seed; the seeds are none that the search trained with."""
    seeds = range(config.seed + 1, config.seed + 1 + config.finalists.seeds)
    full = replace(spec, validate_every=spec.iterations)
    return [Run(name, seed, replace(full, seed=seed)) for seed in seeds]


@dataclass(frozen=True)
class Standing:
    """A finalist after retraining: its seeds' scores on fresh meta-validation tasks.

    ``mean`` is over seeds; ``ci95`` is over tasks and seeds together.
    """

    name: str
    mean: float
    ci95: float
    best_seed: int
    seconds: float
    seeds: dict[int, Score]


def standing(
    name: str, runs: Iterable[Run], outcomes: dict[str, Any], direction: str
) -> Standing | None:
    """The standing of one configuration over the seeds that succeeded; None where none did."""
    scores: dict[int, Score] = {}
    seconds = 0.0
    for run in runs:
        outcome = dict(outcomes[run.label])
        if "failed" in outcome:
            continue
        seconds += outcome.pop("seconds")
        scores[run.seed] = Score(**outcome)
    if not scores:
        return None
    sign = 1.0 if direction == MAXIMIZE else -1.0
    best = max(scores, key=lambda seed: (sign * scores[seed].mean, -seed))
    mean, ci95 = pooled(list(scores.values()))
    return Standing(name, mean, ci95, best, seconds, scores)


def pooled(scores: list[Score]) -> tuple[float, float]:
    """Mean over seeds and its 95 % interval.

    The seeds share their tasks, so a task's error doesn't shrink with more seeds: the interval
    adds the mean variance over tasks and the variance between seeds.
    """
    mean = statistics.fmean(score.mean for score in scores)
    within = statistics.fmean((score.ci95 / 1.96) ** 2 for score in scores)
    between = statistics.variance([s.mean for s in scores]) / len(scores) if scores[1:] else 0.0
    return mean, 1.96 * math.sqrt(within + between)
