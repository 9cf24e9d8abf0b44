"""A study's first phase: a super-net is trained on Ray and ranks networks; the best come first.

Everything is in the study's folder: ``supernet/supernet.pt`` (the shared weights as far as they are
trained), ``supernet/ranking.json`` (networks and scores, in the order in which they were proposed),
``supernet/weights/`` (what trials start from). A phase that was stopped goes on.

With ``inherit`` every trial on the super-net's backbone starts from its slices, not only those that
it ranked best: a head start for some would be counted by the sampler as a merit of theirs. For the
same reason finalists are retrained as their trials were, from the same slices, so that their
seeds differ in the training after that alone. The baseline begins from nothing, as published.
"""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import optuna
import ray

from autometa.backbones.base import Option, Sample
from autometa.config import StudyConfig, SupernetConfig
from autometa.engine import checkpoint as checkpoints
from autometa.errors import StudyError
from autometa.learners.base import Params
from autometa.search.events import Observer, Phase
from autometa.search.folder import StudyFolder, write_json
from autometa.search.space import Candidate, SearchSpace, Suggest
from autometa.search.study import spent_s
from autometa.search.supernet.paths import Paths
from autometa.search.supernet.ranking import Ranked, Ranking, Scores, key
from autometa.search.supernet.training import Job, save_weights, score, train
from autometa.search.tuner import trial_resources
from autometa.search.worker import reason_of, use_threads

PIECES = 20
"""Of the training, each with a checkpoint at its end."""
FOLDER = "supernet"


def prepare(
    job: Job, space: SearchSpace, config: StudyConfig, study: optuna.Study, observer: Observer
) -> SearchSpace:
    """Train, rank and enqueue; the space that the study's trials are proposed from.

    Raises:
        StudyError: Training or scoring failed.
    """
    assert config.supernet is not None
    choices = space.backbones[job.spec.backbone]
    paths = Paths(job.spec.backbone, choices, space.limits)
    phase = SupernetPhase(job, paths, config, config.supernet, study, observer)
    phase.train()
    for network in phase.best(phase.rank()):
        params = {"backbone": paths.name} if len(space.backbones) > 1 else {}
        study.enqueue_trial(params | dict(network.params), skip_if_exists=True)
    if not config.supernet.inherit:
        return space
    params = checkpoints.load(phase.checkpoint)["params"]
    return InheritingSpace(
        space.learners, space.backbones, space.limits, paths.name, params, config.folder
    )


@dataclass(frozen=True)
class SupernetPhase:
    """The steps of the phase, each of which goes on from what it finds in the folder."""

    job: Job
    paths: Paths
    config: StudyConfig
    settings: SupernetConfig
    study: optuna.Study
    observer: Observer

    @property
    def checkpoint(self) -> Path:
        return (self.config.folder / FOLDER / "supernet.pt").absolute()

    @property
    def scores(self) -> Path:
        return self.config.folder / FOLDER / "ranking.json"

    def train(self) -> None:
        """Train to the full budget, a piece at a time."""
        total, done = self.job.spec.iterations, self._trained()
        piece = math.ceil(total / PIECES)
        self.observer(Phase("super-net", done, total))
        while done < total:
            done = min(done + piece, total)
            with self._timed():
                self._get([self._call(train_piece, "super-net", until=done)])
            self.observer(Phase("super-net", done, total))

    def _trained(self) -> int:
        if not self.checkpoint.exists():
            return 0
        return int(checkpoints.load(self.checkpoint)["iteration"])

    def rank(self) -> Ranking:
        """Score as many networks as the settings say; known scores are taken as they are."""
        direction = self.study.directions[0].name.lower()
        total = self.settings.candidates
        ranking = Ranking(self.paths, self.config.seed, total, direction)
        kept = StudyFolder(self.config.folder).read_json(self.scores) or {"networks": []}
        known = {key(each["architecture"]): each["score"] for each in kept["networks"]}
        self.observer(Phase("ranking", 0, total))

        def scored(samples: Sequence[Sample]) -> Scores:
            missing = [sample for sample in samples if key(sample) not in known]
            with self._timed():
                known.update(zip(map(key, missing), self._scores(missing), strict=True))
            return [known[key(sample)] for sample in samples]

        for done in ranking.rounds(scored):
            rows = [{"architecture": r.architecture, "score": r.score} for r in ranking.ranked]
            if len(rows) > len(kept["networks"]):
                write_json(self.scores, {"networks": rows})
            self.observer(Phase("ranking", done, total))
        return ranking

    def _scores(self, samples: Sequence[Sample]) -> Scores:
        """Scores by as many workers as the study has."""
        workers = self.config.resources.concurrency
        shares = [samples[worker::workers] for worker in range(workers)]
        tasks = self.settings.tasks
        parts = self._get(
            [self._call(score_piece, "ranking", samples=list(s), tasks=tasks) for s in shares]
        )
        return [parts[i % workers][i // workers] for i in range(len(samples))]

    def best(self, ranking: Ranking) -> list[Ranked]:
        """The networks to keep; latency, where it is limited, is measured of these only."""
        kept: list[Ranked] = []
        for each in ranking.best_first():
            if len(kept) == self.settings.keep or each.score is None:
                break
            backbone = self.paths.choices.space.build(
                each.architecture, self.paths.choices.in_shape
            )
            candidate = self.paths.candidate(each.architecture, backbone)
            if candidate.timed(backbone, self.paths.limits).excess(self.paths.limits) is None:
                kept.append(each)
        return kept

    def _call(self, work: Callable[..., Any], title: str, **given: Any) -> Any:
        """A piece of work as a Ray task with the resources of a trial."""
        resources = trial_resources(self.config)
        cpus, gpus = resources["CPU"], resources.get("GPU", 0)
        remote = ray.remote(num_cpus=cpus, num_gpus=gpus)(work).options(name=title)
        return remote.remote(self.job.to_json(), str(self.checkpoint), cpus=cpus, **given)

    @staticmethod
    def _get(calls: Sequence[Any]) -> list[Any]:
        outcomes = ray.get(list(calls))
        for outcome in outcomes:
            if "failed" in outcome:
                raise StudyError(
                    f"the super-net failed ({outcome['failed']}): mend it, by another "
                    "supernet.hyper.meta_lr for instance, in a new study"
                )
        return [outcome["result"] for outcome in outcomes]

    @contextmanager
    def _timed(self) -> Iterator[None]:
        """The time counts as the search's."""
        start = time.monotonic()
        yield
        spent = spent_s(self.study) + time.monotonic() - start
        self.study.set_user_attr("search_s", spent)


def train_piece(job: dict[str, Any], checkpoint: str, *, until: int, cpus: float) -> dict[str, Any]:
    """In a worker: train on, up to a meta-iteration."""
    use_threads(cpus)
    try:
        train(Job.from_json(job), Path(checkpoint), until)
    except Exception as error:  # told by the driver in one sentence
        return {"failed": reason_of(error)}
    return {"result": None}


def score_piece(
    job: dict[str, Any],
    checkpoint: str,
    *,
    samples: Sequence[Mapping[str, Option]],
    tasks: int,
    cpus: float,
) -> dict[str, Any]:
    """In a worker: the scores of some networks, None where one isn't finite."""
    use_threads(cpus)
    try:
        found = score(Job.from_json(job), Path(checkpoint), samples, tasks)
    except Exception as error:
        return {"failed": reason_of(error)}
    return {"result": [value if math.isfinite(value) else None for value in found]}


@dataclass(frozen=True, eq=False)
class InheritingSpace(SearchSpace):
    """A space whose candidates on one backbone start from a super-net's slices.

    Attributes:
        shared: The super-net's meta-parameters.
        folder: Of the study, in which the slices of each candidate become a file.
    """

    name: str
    shared: Params
    folder: Path

    def sample(self, trial: Suggest) -> Candidate:
        candidate = super().sample(trial)
        if candidate.backbone != self.name or candidate.excess(self.limits) is not None:
            return candidate
        digest = hashlib.sha256(key(candidate.architecture).encode()).hexdigest()[:16]
        initial = f"{FOLDER}/weights/{digest}.pt"
        if not (self.folder / initial).exists():
            choices = self.backbones[self.name]
            backbone = choices.space.build(candidate.architecture, choices.in_shape)
            save_weights(self.shared, backbone, self.folder / initial)
        return replace(candidate, initial=initial)
