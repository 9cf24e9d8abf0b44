"""Several samplers in one study, each for its own part of the space."""

from __future__ import annotations

import copy
import re
from collections.abc import Callable, Container, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from autometa.search.independent import IndependentSampler

STRUCTURE = re.compile(r"(learner|backbone)|.+\.(depth|nodes|inner_steps|mode|groups|form)")
"""Parameters that decide which others there are: the shape of networks and of rate vectors."""

Params = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """Parameters whose names fit the pattern, and the sampler that proposes them.

    Attributes:
        joint: Whether the sampler models what all its trials have in common, so that it should see
            only trials of the same structure as the one to propose.
    """

    pattern: str
    sampler: BaseSampler
    joint: bool


@dataclass(frozen=True)
class Proposal:
    """What a part's sampler saw, and the values that it proposes together."""

    view: optuna.Study
    space: Mapping[str, BaseDistribution]
    values: Params


class PartedSampler(IndependentSampler):
    """Each parameter is proposed by the first part that its name fits.

    A part's sampler sees trials that have the part's parameters only, with their scores, and
    proposes when the first of them is asked for: in a define-by-run space what is asked for is
    known no earlier. One lives for a single proposal.

    Args:
        parts: The last one's pattern is ``*``.
    """

    def __init__(self, parts: list[Part]) -> None:
        self._parts = parts
        self._proposals: dict[int, Proposal] = {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """The value that the parameter's part proposes."""
        index = self._index(param_name)
        if index not in self._proposals:
            self._proposals[index] = self._propose(index, study, trial, param_name)
        proposal = self._proposals[index]
        values = proposal.values  # none while the sampler starts up
        if param_name in values and proposal.space[param_name] == param_distribution:
            return values[param_name]
        sampler = self._parts[index].sampler
        return sampler.sample_independent(proposal.view, trial, param_name, param_distribution)

    def _index(self, name: str) -> int:
        return next(i for i, part in enumerate(self._parts) if fnmatchcase(name, part.pattern))

    def _propose(self, index: int, study: optuna.Study, trial: FrozenTrial, first: str) -> Proposal:
        part = self._parts[index]

        def belongs(params: Params) -> bool:
            return first in params and structure(params).items() >= structure(trial.params).items()

        def own(name: str) -> bool:
            return self._index(name) == index

        view = PartView(study, own, belongs if part.joint else lambda _: True)
        space = part.sampler.infer_relative_search_space(view, trial)
        return Proposal(view, space, part.sampler.sample_relative(view, trial, space))


def structure(params: Params) -> Params:
    """Those of the parameters that decide which others there are."""
    return {name: value for name, value in params.items() if STRUCTURE.fullmatch(name)}


class PartView(optuna.Study):
    """A study as a part's sampler sees it: the trials that belong, with the part's parameters."""

    def __init__(
        self,
        study: optuna.Study,
        own: Callable[[str], bool],
        belongs: Callable[[Params], bool],
    ) -> None:
        super().__init__(study.study_name, study._storage, sampler=study.sampler)
        self._study, self._own, self._belongs = study, own, belongs

    def _get_trials(
        self,
        deepcopy: bool = True,
        states: Container[TrialState] | None = None,
        use_cache: bool = False,
    ) -> list[FrozenTrial]:
        trials = self._study._get_trials(deepcopy, states, use_cache)
        return [self._shown(trial) for trial in trials if self._belongs(trial.params)]

    def _shown(self, trial: FrozenTrial) -> FrozenTrial:
        shown = copy.copy(trial)
        kept = [name for name in trial.params if self._own(name)]
        shown._params = {name: trial._params[name] for name in kept}
        shown._distributions = {name: trial._distributions[name] for name in kept}
        return shown
