"""Population based training: trials that fell behind are replaced by heirs of those ahead.

M. Jaderberg et al.: "Population Based Training of Neural Networks", 2017,
https://arxiv.org/abs/1711.09846. *Exploit*: a trial in the worst share of those that came as far is
cut, and one of the best share lends its heir everything: architecture, hyper-parameters,
meta-parameters, the optimizer's state. *Explore*: the heir goes on with the hyper-parameters of the
outer loop changed. So what is found is a course of hyper-parameters; it is told by the candidate's
``earlier``, and a finalist is trained through all of it.

Here a cut trial and its heir are two trials of the study, so that its storage tells all, and trials
needn't all run at once: as with ASHA, one is compared with those that have come as far before.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.search.folder import CHECKPOINTS
from autometa.search.independent import IndependentSampler
from autometa.search.samplers import mixed
from autometa.search.study import curve_of, trial_name
from autometa.trial import kept

CUT_AT = "cut_at"
"""Attribute of a trial that the scheduler cut: the meta-iteration."""
REPLACES = "replaces"
"""Attribute of an heir: the number of the trial in whose place it trains."""
OUTER = ("meta_lr", "meta_batch", "meta_weight_decay")
"""Hyper-parameters that may change on the way: meta-parameters keep their shapes."""
FACTORS = (0.8, 1.2)
RESAMPLED = 0.25
"""How often a value is drawn anew, as Ray's implementation has it."""


@dataclass(frozen=True)
class Heritage:
    """Whom a trial goes on from, where, and in whose place."""

    parent: FrozenTrial
    iteration: int
    replaces: int

    def candidate(self, sampled: dict[str, Any]) -> dict[str, Any]:
        """The sampled candidate, its parent's course before it and its checkpoint to start from."""
        before = self.parent.user_attrs["candidate"]
        course = [*before.get("earlier", []), [self.iteration, before["hyper"]]]
        checkpoint = CHECKPOINTS / f"{trial_name(self.parent.number, before)}.pt"
        return sampled | {"earlier": course, "start": str(kept(checkpoint, self.iteration))}


def heritage(study: optuna.Study, share: float, seed: int, number: int) -> Heritage | None:
    """That of the next trial; None where no trial waits to be replaced.

    Args:
        share: Of the trials that came as far, those that may be parents.
        number: Of the next trial.
    """
    trials = study.get_trials(deepcopy=False)
    if any(trial.state == TrialState.WAITING for trial in trials):
        return None  # what is queued comes first, and is no heir
    whole = [trial for trial in trials if "candidate" in trial.user_attrs]
    replaced = {trial.user_attrs.get(REPLACES) for trial in whole}
    cut = [t for t in trials if CUT_AT in t.user_attrs and t.number not in replaced]
    if not cut:
        return None
    iteration = cut[0].user_attrs[CUT_AT]
    ahead = _best(trials, iteration, study.directions[0])
    if not ahead:
        return None
    top = ahead[: math.ceil(share * len(ahead))]
    return Heritage(Random(mixed(seed, number)).choice(top), iteration, cut[0].number)


def _best(
    trials: Sequence[FrozenTrial], iteration: int, direction: StudyDirection
) -> list[FrozenTrial]:
    """Those that were scored there and went on, best first."""
    scored = [(curve_of(t).get(iteration, math.nan), t) for t in trials]
    sign = -1 if direction == StudyDirection.MAXIMIZE else 1
    onward = [
        (sign * score, trial.number, trial)
        for score, trial in scored
        if math.isfinite(score) and trial.user_attrs.get(CUT_AT) != iteration
    ]
    return [trial for _, _, trial in sorted(onward, key=lambda each: each[:2])]


class HeirSampler(IndependentSampler):
    """One proposal: the parent's values, those of the outer loop changed.

    Args:
        own: The study's sampler, for a parameter that the parent doesn't have.
    """

    def __init__(self, parent: FrozenTrial, own: BaseSampler, seed: int) -> None:
        self._parent, self._own = parent, own
        self._random, self._anew = Random(seed), RandomSampler(seed=seed)

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The parent's value, or what exploring makes of it."""
        asked = (study, trial, param_name, param_distribution)
        if param_name not in self._parent.params:
            return self._own.sample_independent(*asked)
        value = self._parent.params[param_name]
        if param_name.rpartition(".")[2] not in OUTER:
            return value
        if self._random.random() < RESAMPLED:
            return self._anew.sample_independent(*asked)
        return perturbed(value, param_distribution, self._random)


def perturbed(value: Any, domain: BaseDistribution, random: Random) -> Any:
    """A number times 0.8 or 1.2, within its domain; of options a neighbour."""
    if isinstance(domain, CategoricalDistribution):
        place = domain.choices.index(value) + random.choice((-1, 1))
        return domain.choices[min(max(place, 0), len(domain.choices) - 1)]
    bounds: Any = domain
    changed = value * random.choice(FACTORS)
    if isinstance(domain, IntDistribution):
        steps = round(abs(changed - value) / domain.step) or 1
        changed = value + math.copysign(steps * domain.step, changed - value)
        return int(min(max(changed, domain.low), domain.high))
    return min(max(changed, bounds.low), bounds.high)
