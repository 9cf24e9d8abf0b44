"""Trials of earlier studies, ranked within their study, as a new study keeps them in its folder."""

from __future__ import annotations

import json
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.config import StudyConfig, without_password
from autometa.errors import ConfigError, StudyError
from autometa.search.evolution import fitness
from autometa.search.folder import StudyFolder
from autometa.search.space import SearchSpace
from autometa.search.study import REJECTED, load_optuna_study

ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


@dataclass(frozen=True)
class EarlierTrial:
    """One trial of an earlier study.

    Attributes:
        rank: Share of the study's trials that are worse, ties by half: near 1 for its best.
        values: Name → value of what was searched, and of what was fixed there but may be searched
            here: learner, backbone, hyper-parameters and architecture.
    """

    rank: float
    values: Mapping[str, Any]


@dataclass(frozen=True)
class EarlierStudy:
    """An earlier study, its trials in the order in which they were proposed."""

    name: str
    trials: tuple[EarlierTrial, ...]


def read_earlier(config: StudyConfig, space: SearchSpace) -> list[EarlierStudy]:
    """The studies that a configuration starts from.

    Raises:
        StudyError: A folder is no study, its storage can't be reached, or no trial is complete.
        ConfigError: A study has nothing that the space searches.
    """
    studies = []
    for folder in config.warm_start:
        trials = _load(folder, config.storage)
        if not any(trial.state == TrialState.COMPLETE for trial in trials[0]):
            raise StudyError(
                f"warm_start: study {str(folder)!r} has no complete trial to learn from: leave it "
                f"out, or go on with it by `autometa resume {folder}`"
            )
        study = ranked(folder.name, *trials)
        if not any(_known(space, trial) for trial in study.trials):
            raise ConfigError(
                f"warm_start: study {str(folder)!r} has nothing in common with this search space: "
                "leave it out, or search some of its learners, backbones or hyper-parameters"
            )
        studies.append(study)
    return studies


def _load(folder: Path, storage: str | None) -> tuple[list[FrozenTrial], StudyDirection]:
    """Trials and direction; a storage's password is that of the new study."""
    home = StudyFolder(folder)
    config = home.config()
    if storage and config.storage == without_password(storage):
        config = config.model_copy(update={"storage": storage})
    study = load_optuna_study(config)
    return study.get_trials(deepcopy=False), study.directions[0]


def ranked(name: str, trials: Iterable[FrozenTrial], direction: StudyDirection) -> EarlierStudy:
    """Those that ended with a candidate; one that was cut is worse the earlier it was."""
    ended = [t for t in trials if t.state in ENDED and t.user_attrs.get("end") != REJECTED]
    pairs = zip(ranks(ended, direction), ended, strict=True)
    return EarlierStudy(name, tuple(EarlierTrial(rank, values_of(t)) for rank, t in pairs))


def ranks(trials: Iterable[FrozenTrial], direction: StudyDirection) -> list[float]:
    """For each trial the share of them that is worse, ties counted by half."""
    scores = [fitness(trial, direction) for trial in trials]
    ordered = sorted(scores)
    return [
        (bisect_left(ordered, each) + bisect_right(ordered, each)) / (2 * len(ordered))
        for each in scores
    ]


def values_of(trial: FrozenTrial) -> dict[str, Any]:
    """Everything that a trial's candidate consists of, by the names of a search space."""
    candidate = trial.user_attrs["candidate"]
    learner, backbone = candidate["learner"], candidate["backbone"]
    values = {"learner": learner, "backbone": backbone}
    values |= {f"{backbone}.{label}": value for label, value in candidate["architecture"].items()}
    for field, value in candidate["hyper"].items():
        name = f"{learner}.{field}"
        if isinstance(value, Mapping):  # a rate vector, whose numbers are in the parameters
            values |= {f"{name}.{key}": value[key] for key in ("mode", "groups")}
        else:
            values[name] = value
    return values | trial.params


def fitting(value: Any, domain: BaseDistribution) -> list[Any]:
    """The value as the domain has it: a number within it, a choice only if it is one; or nothing.

    True is no 1 here, though Python has them equal.
    """
    if isinstance(domain, CategoricalDistribution):
        same = (c for c in domain.choices if c == value and _is_bool(c) == _is_bool(value))
        return list(same)[:1]
    if _is_bool(value) or not isinstance(value, int | float):
        return []
    bounds: Any = domain
    held = min(max(value, bounds.low), bounds.high)
    if isinstance(domain, optuna.distributions.IntDistribution):
        return [domain.low + domain.step * round((held - domain.low) / domain.step)]
    return [float(held)]


def _is_bool(value: Any) -> bool:
    return isinstance(value, bool)


def _known(space: SearchSpace, trial: EarlierTrial) -> bool:
    """Whether the space searches anything for which the trial has a value."""
    follow = _Follow(trial.values)
    space.sample(follow)
    return follow.known


class _Follow:
    """A ``Suggest`` that follows a trial as far as it goes; elsewhere it takes the lowest."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self._values = values
        self.known = False

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        domain = optuna.distributions.FloatDistribution(low, high, log=log)
        return float(self._follow(name, domain, low))

    def suggest_int(
        self, name: str, low: int, high: int, *, log: bool = False, step: int = 1
    ) -> int:
        domain = optuna.distributions.IntDistribution(low, high, log=log, step=step)
        return int(self._follow(name, domain, low))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._follow(name, CategoricalDistribution(choices), choices[0])

    def _follow(self, name: str, domain: BaseDistribution, otherwise: Any) -> Any:
        found = fitting(self._values[name], domain) if name in self._values else []
        self.known = self.known or bool(found)
        return found[0] if found else otherwise


def to_text(studies: Iterable[EarlierStudy]) -> str:
    """As the study folder keeps them."""
    return json.dumps([asdict(study) for study in studies], indent=1, allow_nan=False) + "\n"


def kept_earlier(config: StudyConfig) -> list[EarlierStudy]:
    """What the study folder keeps; nothing where the study starts cold.

    Raises:
        StudyError: The file is missing or damaged.
    """
    if not config.warm_start:
        return []
    path = StudyFolder(config.folder).earlier
    try:
        return list(_parsed(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise StudyError(
            f"{path} is missing or damaged ({error}): its earlier studies are lost"
        ) from None


def _parsed(values: Any) -> Iterator[EarlierStudy]:
    for study in values:
        yield EarlierStudy(study["name"], tuple(EarlierTrial(**each) for each in study["trials"]))
