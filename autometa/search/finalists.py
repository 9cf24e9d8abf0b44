"""The best configurations, retrained on several seeds and scored on tasks that are new to them.

The search's best score is the maximum of noise, so the finalists are trained anew and scored on
fresh meta-validation tasks. What else happens to them is in ``selection.py``; here is the work.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import ray

from autometa.config import StudyConfig
from autometa.search.events import Observer, Phase
from autometa.search.folder import StudyFolder, write_json
from autometa.search.paired import Estimate, Scores, weighted
from autometa.search.study import MAXIMIZE, TrialRow
from autometa.search.tuner import trial_resources
from autometa.search.worker import reason_of, use_threads
from autometa.trial import ITERATIONS, TrialSpec, score_checkpoint, train_to_end

Outcome = dict[str, Any]
"""Of a run in a step: ``failed`` with a reason, or the fields of a score and ``seconds``."""

CONFIRMATION = ("validation", "confirm")
"""Split and stream of the tasks that confirm a winner, and choose nothing."""


@dataclass(frozen=True)
class Run:
    """One retraining: a configuration and a seed."""

    name: str
    seed: int
    spec: TrialSpec

    @property
    def label(self) -> str:
        return f"{self.name}-seed{self.seed}"


@dataclass(frozen=True)
class Step:
    """Something done to runs: they are trained first, if need be, and scored.

    Attributes:
        title: Of the progress and of the files that keep the outcomes.
        split: Whose tasks.
        stream: Which of its endless tasks: the same for all runs, and another for each step.
    """

    title: str
    split: str
    stream: str
    tasks: int
    train: bool = False


@dataclass(frozen=True)
class Scorer:
    """Takes steps on Ray's workers; each outcome is kept in a file of the study."""

    folder: StudyFolder
    config: StudyConfig
    observer: Observer

    def __call__(self, step: Step, runs: Iterable[Run]) -> dict[str, Outcome]:
        """Label → the outcome of each run; those that an earlier process had are kept."""
        runs = list(runs)
        files = {run.label: self.folder.finalist(f"{step.title}-{run.label}") for run in runs}
        outcomes = {label: self.folder.read_json(path) for label, path in files.items()}
        pending = {self._send(step, r): r.label for r in runs if outcomes[r.label] is None}
        self.observer(Phase(step.title, len(runs) - len(pending), len(runs)))
        while pending:
            (ready,), _ = ray.wait(list(pending), num_returns=1)
            label = pending.pop(ready)
            outcomes[label] = ray.get(ready)
            write_json(files[label], outcomes[label])
            self.observer(Phase(step.title, len(runs) - len(pending), len(runs), label))
        return {label: outcome for label, outcome in outcomes.items() if outcome is not None}

    def _send(self, step: Step, run: Run) -> Any:
        checkpoint = str(self.folder.checkpoint(run.label).absolute())
        remote = self._remote.options(name=f"{step.title} {run.label}")
        cpus = trial_resources(self.config)["CPU"]
        return remote.remote(run.spec.to_json(), checkpoint, step, cpus)

    @cached_property
    def _remote(self) -> Any:
        resources = trial_resources(self.config)
        gpus = resources.get("GPU", 0)
        return ray.remote(num_cpus=resources["CPU"], num_gpus=gpus)(_work)


def _work(spec_json: dict[str, Any], checkpoint: str, step: Step, cpus: float) -> Outcome:
    use_threads(cpus)
    spec, path, seconds = TrialSpec.from_json(spec_json), Path(checkpoint), 0.0
    if step.train:
        try:
            seconds = train_to_end(spec, path)
        except Exception as error:  # one seed that diverges must not cost the others
            return {"failed": reason_of(error)}
    score = score_checkpoint(spec, path, step.split, step.stream, step.tasks)
    if not all(map(math.isfinite, score.scores)):
        return {"failed": "its predictions aren't finite"}
    return asdict(score) | {"seconds": seconds}


def as_searched(spec: TrialSpec, trial: TrialRow | None) -> TrialSpec:
    """A trial from its very beginning; where its budget is a time, as long as it was searched."""
    whole = replace(spec, start=None)
    if trial is None or ITERATIONS not in trial.measures:
        return whole
    return replace(whole, iterations=int(trial.measures[ITERATIONS]), seconds=None)


def runs_of(name: str, spec: TrialSpec, config: StudyConfig) -> list[Run]:
    """One run a seed; the seeds are none that the search trained with."""
    seeds = range(config.seed + 1, config.seed + 1 + config.finalists.seeds)
    full = replace(spec, validate_every=spec.iterations)
    return [Run(name, seed, replace(full, seed=seed)) for seed in seeds]


@dataclass(frozen=True)
class Standing:
    """A configuration after retraining: the scores of each seed on the same fresh tasks.

    Attributes:
        runs: Those that succeeded.
        scores: [runs, tasks].
        seconds: Of all their training.
    """

    name: str
    runs: tuple[Run, ...]
    scores: Scores
    seconds: float = 0.0

    @cached_property
    def estimate(self) -> Estimate:
        """The mean over seeds; its interval is over tasks and seeds together."""
        return weighted([(1.0, self.scores)])

    @property
    def tasks(self) -> int:
        return int(self.scores.shape[1])

    def seed_means(self) -> dict[str, float]:
        """Seed → mean over tasks."""
        means = self.scores.mean(axis=1)
        return {str(run.seed): float(mean) for run, mean in zip(self.runs, means, strict=True)}

    def best_run(self, direction: str) -> Run:
        """The seed with the best mean; of equals the first."""
        means = self.scores.mean(axis=1)
        return self.runs[int(means.argmax() if direction == MAXIMIZE else means.argmin())]

    def described(self) -> dict[str, Any]:
        """As ``result.json`` keeps it."""
        mean, ci95 = self.estimate.mean, self.estimate.ci95
        return {"mean": mean, "ci95": ci95, "tasks": self.tasks, "seeds": self.seed_means()}


def standing(name: str, runs: Iterable[Run], outcomes: Mapping[str, Outcome]) -> Standing | None:
    """The standing of one configuration over the seeds that succeeded; None where none did."""
    sound = tuple(run for run in runs if "failed" not in outcomes[run.label])
    if not sound:
        return None
    scores = np.array([outcomes[run.label]["scores"] for run in sound], dtype=np.float64)
    return Standing(name, sound, scores, sum(outcomes[run.label]["seconds"] for run in sound))


def prolonged(before: Standing, outcomes: Mapping[str, Outcome]) -> Standing | None:
    """The same configuration with further tasks; a seed that failed on them drops out."""
    after = standing(before.name, before.runs, outcomes)
    if after is None:
        return None
    kept = [index for index, run in enumerate(before.runs) if run in after.runs]
    scores = np.concatenate([before.scores[kept], after.scores], axis=1)
    return replace(after, scores=scores, seconds=before.seconds)
