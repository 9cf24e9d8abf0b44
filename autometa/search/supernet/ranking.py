"""Which networks a super-net is asked about: random ones, then mutations of the best of them.

The second half are children by regularised evolution (:mod:`autometa.search.evolution`); Guo et al.
(arXiv:1904.00420), too, search by evolution once the super-net is trained.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.study import StudyDirection
from optuna.trial import TrialState

from autometa.backbones.base import Option, Sample
from autometa.config import SamplerConfig
from autometa.search.samplers import make_sampler
from autometa.search.study import MAXIMIZE
from autometa.search.supernet.paths import Paths

ROUND = 50
"""Networks proposed at a time, before their scores are known."""
PATIENCE = 300
"""Proposals in a row that may be nothing new, before the space counts as exhausted."""

Scores = list[float | None]


@dataclass(frozen=True)
class Ranked:
    """A network with its score (None: not finite), and its parameters in the search."""

    architecture: Mapping[str, Option]
    params: Mapping[str, Any]
    score: float | None


class Ranking:
    """Proposes networks within the limits and learns their scores; deterministic in both.

    Args:
        seed: Of all proposals.
        candidates: How many to rank; a small space may have fewer.
    """

    def __init__(self, paths: Paths, seed: int, candidates: int, direction: str) -> None:
        self._paths, self._seed, self._candidates = paths, seed, candidates
        self._sampler = SamplerConfig(name="evolution", startup_trials=max(candidates // 2, 1))
        self._study = optuna.create_study(direction=StudyDirection[direction.upper()])
        self._sign = -1.0 if direction == MAXIMIZE else 1.0
        self._seen: set[str] = set()
        self.ranked: list[Ranked] = []

    def rounds(self, score: Callable[[Sequence[Sample]], Scores]) -> Iterator[int]:
        """Rank everything, a round at a time; yields how many are ranked.

        Args:
            score: The scores of some networks.
        """
        while len(self.ranked) < self._candidates:
            trials = list(self._proposals(min(ROUND, self._candidates - len(self.ranked))))
            if not trials:
                return
            scores = score([sample for _, sample in trials])
            for (trial, sample), value in zip(trials, scores, strict=True):
                state = TrialState.FAIL if value is None else None
                self._study.tell(trial, value, state=state)
                self.ranked.append(Ranked(sample, trial.params, value))
            yield len(self.ranked)

    def best_first(self) -> list[Ranked]:
        """Everything that is ranked, of equals what was proposed earlier."""

        def badness(each: Ranked) -> float:
            return math.inf if each.score is None else self._sign * each.score

        return sorted(self.ranked, key=badness)

    def _proposals(self, count: int) -> Iterator[tuple[optuna.Trial, Sample]]:
        """New networks within the limits; fewer where the space has no more."""
        barren = 0
        while count and barren < PATIENCE:
            number = len(self._study.get_trials(deepcopy=False))
            self._study.sampler = make_sampler(self._sampler, self._seed, number)
            trial = self._study.ask()
            if (sample := self._new(trial)) is None:
                self._study.tell(trial, state=TrialState.FAIL)
                barren += 1
            else:
                barren, count = 0, count - 1
                yield trial, sample

    def _new(self, trial: optuna.Trial) -> Sample | None:
        sample, backbone = self._paths.choices.sample(trial, self._paths.name)
        fits = self._paths.candidate(sample, backbone).excess(self._paths.limits) is None
        if not fits or (name := key(sample)) in self._seen:
            return None
        self._seen.add(name)
        return sample


def key(sample: Sample) -> str:
    """A network as text, the same whatever the order of its labels."""
    return json.dumps(dict(sample), sort_keys=True)
