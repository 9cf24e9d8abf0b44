"""The search space of a study as one define-by-run function over Optuna's ``suggest_*``.

Names are stable, so that studies can be compared: ``maml.inner_lr[2][conv3]``,
``conv.conv3/kernel``. Conditional parameters are suggested only where they are active.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import lru_cache
from typing import Any, Protocol

from autometa.backbones import BACKBONES
from autometa.backbones.base import Backbone, BackboneSpace, Condition, Option, Shape
from autometa.config import LimitsConfig, SpaceConfig
from autometa.errors import ConfigError, suggestion
from autometa.learners import LEARNERS
from autometa.learners.base import REGRESSION, Hyper, Learner
from autometa.learners.domains import Choice, Domain, Float, Int, Rates
from autometa.learners.hyper_json import to_json
from autometa.learners.rates import RateVector
from autometa.search.domains import Fixed, check_values, override
from autometa.search.rate_space import LEARNED, initial_rate, proposed_rates, rate_rows
from autometa.trial import device


class Suggest(Protocol):
    """What is used of ``optuna.Trial``."""

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = ...) -> float: ...
    def suggest_int(
        self, name: str, low: int, high: int, *, log: bool = ..., step: int = ...
    ) -> int: ...
    def suggest_categorical(self, name: str, choices: Sequence[Option | None]) -> Any: ...


@dataclass(frozen=True)
class Candidate:
    """One point of the space: names and numbers only, so it crosses to a worker as JSON.

    ``latency_ms`` is measured only where the study limits it; ``initial`` is a file in the study
    folder whose weights training starts from.
    """

    learner: str
    hyper: dict[str, Any]
    backbone: str
    architecture: dict[str, Option]
    parameters: int
    macs: int
    latency_ms: float | None = None
    initial: str | None = None

    def excess(self, limits: LimitsConfig) -> str | None:
        """Why the limits refuse this candidate, or None."""
        for name, limit in limits:
            size = getattr(self, name.removeprefix("max_"))
            if limit is not None and size is not None and size > limit:
                return f"{name.removeprefix('max_')} {size:,} exceed {name} {limit:,}"
        return None

    def timed(self, backbone: Backbone, limits: LimitsConfig) -> Candidate:
        """The same with its latency, where that is limited and all else is within the limits."""
        if limits.max_latency_ms is None or self.excess(limits) is not None:
            return self
        return replace(self, latency_ms=backbone.latency_ms(device()))


@dataclass(frozen=True)
class BackboneChoices:
    """A backbone space with the options that the study leaves it."""

    space: BackboneSpace
    in_shape: Shape
    options: Mapping[str, tuple[Option, ...]]

    def draw(self, trial: Suggest, name: str) -> dict[str, Option]:
        sample: dict[str, Option] = {}
        for label, options in self.options.items():
            if self.space.active(label, sample):
                sample[label] = _choose(trial, f"{name}.{label}", options)
        return sample

    def sample(self, trial: Suggest, name: str) -> tuple[dict[str, Option], Backbone]:
        sample = self.draw(trial, name)
        return sample, _built(self.space, tuple(sample.items()), self.in_shape)

    def needed(self, label: str) -> list[Condition]:
        """Everything that must hold for a label to matter."""
        condition = self.space.condition(label)
        return [] if condition is None else [*self.needed(condition.label), condition]

    def reachable(self, label: str) -> bool:
        """Whether the options that are left let a label matter."""
        return all(any(map(c.holds, self.options[c.label])) for c in self.needed(label))


@dataclass(frozen=True)
class LearnerDomains:
    """A learner with the domains that the study leaves it."""

    learner: type[Learner[Any]]
    domains: Mapping[str, Domain | Fixed]

    def options(self, field: str) -> tuple[Any, ...]:
        """Every value that a field of named options may get."""
        domain = self.domains[field]
        if isinstance(domain, Fixed):
            return (domain.value,)
        assert isinstance(domain, Choice)
        return domain.options

    def sample(self, trial: Suggest, name: str, backbone: Backbone) -> Hyper:
        values: dict[str, Any] = {}
        for field, domain in self.domains.items():
            if not isinstance(domain, Rates):
                values[field] = _suggest(trial, f"{name}.{field}", domain)
        parameters = self.learner.fast_parameters(backbone.parameter_names)
        for field, domain in self.domains.items():
            if isinstance(domain, Rates):
                steps = values[domain.steps]
                values[field] = _rates(trial, f"{name}.{field}", domain, steps, parameters)
        return self.learner.hyper_type(**values)


@dataclass(frozen=True)
class SearchSpace:
    """Everything a study may propose."""

    learners: Mapping[str, LearnerDomains]
    backbones: Mapping[str, BackboneChoices]
    limits: LimitsConfig

    def sample(self, trial: Suggest) -> Candidate:
        """One candidate; limits are not yet applied."""
        learner = _choose(trial, "learner", tuple(self.learners))
        name = _choose(trial, "backbone", tuple(self.backbones))
        architecture, backbone = self.backbones[name].sample(trial, name)
        hyper = self.learners[learner].sample(trial, learner, backbone)
        candidate = Candidate(
            learner, to_json(hyper), name, architecture, backbone.parameters, backbone.macs
        )
        return candidate.timed(backbone, self.limits)


@lru_cache(maxsize=1024)
def _built(
    space: BackboneSpace, sample: tuple[tuple[str, Option], ...], in_shape: Shape
) -> Backbone:
    """The network of a sample, which searches often propose again."""
    return space.build(dict(sample), in_shape)


def build_space(config: SpaceConfig, in_shape: Shape, problem: str) -> SearchSpace:
    """The space that a configuration describes, for data of this shape.

    Raises:
        ConfigError: An unknown name, an impossible domain, or a learner or backbone that can't
            serve these data.
    """
    images = len(in_shape) == 3 and problem != REGRESSION
    return SearchSpace(
        {
            name: learner_domains(
                name, given, problem, field=f"space.learners.{name}", images=images
            )
            for name, given in config.learners.items()
        },
        {name: _backbone(name, given, in_shape) for name, given in config.backbones.items()},
        config.limits,
    )


class RandomSuggest:
    """A ``Suggest`` without a study: seeded random choices."""

    def __init__(self, seed: int | str) -> None:
        self._random = random.Random(seed)

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        return self._random.uniform(low, high)

    def suggest_int(
        self, name: str, low: int, high: int, *, log: bool = False, step: int = 1
    ) -> int:
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Option | None]) -> Any:
        return self._random.choice(choices)


def load_learner(name: str, problem: str) -> type[Learner[Any]]:
    """A learner's class, if it can serve the problem."""
    learner: type[Learner[Any]] = LEARNERS.load(name)
    if problem not in learner.problems:
        able = ", ".join(sorted(learner.problems))
        raise ConfigError(f"learner {name!r} can't do {problem} (only {able}): leave it out")
    return learner


def load_backbone(name: str, in_shape: Shape, *, field: str = "") -> BackboneSpace:
    """A backbone space, if it can read inputs of this shape; else ``field`` begins what is said."""
    space: BackboneSpace = BACKBONES.load(name)()
    if space.input_rank != len(in_shape):
        raise ConfigError(
            f"{field}backbone {name!r} reads inputs of {space.input_rank} dimensions, "
            f"but the data have shape {in_shape}: choose another of {', '.join(BACKBONES)}"
        )
    return space


def learner_domains(
    name: str, given: Mapping[str, Any], problem: str, *, field: str, images: bool = True
) -> LearnerDomains:
    """A learner's domains with those that the user gave in the configuration's ``field``.

    Where the data aren't labelled ``images``, none is augmented.
    """
    learner = load_learner(name, problem)
    known = {each.name: each for each in dataclasses.fields(learner.hyper_type)}
    for key in given:
        if key not in known:
            raise ConfigError(f"{field}.{key} is unknown: {suggestion(str(key), known)}")
    domains: dict[str, Domain | Fixed] = {}
    for key, each in known.items():
        own: Domain | Fixed = each.metadata["domain"]
        if key == "augment" and not images:
            own = Fixed("none")  # affine maps are of images
        domains[key] = own
        if key in given:
            full = f"{field}.{key}"
            domains[key] = override(full, each.metadata["domain"], given[key], each.default)
    check_values(field, learner.hyper_type, domains, given)
    return LearnerDomains(learner, domains)


def _backbone(name: str, given: Mapping[str, Any], in_shape: Shape) -> BackboneChoices:
    space = load_backbone(name, in_shape)
    options = space.choices(in_shape)
    for pattern, allowed in given.items():
        labels = [label for label in options if fnmatchcase(label, pattern)]
        full = f"space.backbones.{name}.{pattern}"
        if not labels:
            raise ConfigError(f"{full} fits no label: {suggestion(pattern, options)}")
        for label in labels:
            options[label] = _subset(full, allowed, options[label])
    return BackboneChoices(space, in_shape, options)


def _subset(field: str, allowed: Any, options: tuple[Option, ...]) -> tuple[Option, ...]:
    chosen = tuple(allowed) if isinstance(allowed, list) else (allowed,)
    wrong = [value for value in chosen if value not in options]
    if wrong or not chosen:
        seen = repr(wrong[0]) if wrong else "empty"
        raise ConfigError(f"{field} is {seen}, but must be some of {options}")
    return chosen


def _choose(trial: Suggest, name: str, options: Sequence[Any]) -> Any:
    """One of the options; a single one is no dimension of the search."""
    return options[0] if len(options) == 1 else trial.suggest_categorical(name, options)


def _suggest(trial: Suggest, name: str, domain: Domain | Fixed) -> Any:
    match domain:
        case Fixed(value):
            return value
        case Choice(options):
            return _choose(trial, name, options)
        case Int(low, high, log, step):
            return low if low == high else trial.suggest_int(name, low, high, log=log, step=step)
        case Float(low, high, log):
            return low if low == high else trial.suggest_float(name, low, high, log=log)
        case Rates():
            raise TypeError("a rate vector needs the backbone's parameters")


def _rates(
    trial: Suggest, name: str, domain: Rates, steps: int, parameters: Sequence[str]
) -> RateVector:
    """A rate vector: its mode and groups, then its form and numbers, or an initial value."""
    mode = _choose(trial, f"{name}.mode", domain.modes)
    groups = _choose(trial, f"{name}.groups", domain.groups)
    if mode == LEARNED:
        return initial_rate(trial, name, domain, groups)
    return proposed_rates(
        trial,
        name,
        domain,
        mode=mode,
        form=_choose(trial, f"{name}.form", domain.forms),
        groups=groups,
        steps=steps,
        parameters=parameters,
    )


def rows(space: SearchSpace) -> Iterator[tuple[str, Domain | Fixed, str]]:
    """(name, domain, active when) of every dimension, for a table."""
    yield "learner", Choice(tuple(space.learners)), "always"
    yield "backbone", Choice(tuple(space.backbones)), "always"
    for name, choices in space.backbones.items():
        for label in filter(choices.reachable, choices.options):
            options = choices.options[label]
            left = Choice(options) if len(options) > 1 else Fixed(options[0])
            active = [f"backbone = {name}", *(needed.told for needed in choices.needed(label))]
            yield f"{name}.{label}", left, ", ".join(active)
    for name, learner in space.learners.items():
        for field, domain in learner.domains.items():
            yield from _learner_rows(f"{name}.{field}", domain, f"learner = {name}")


def _learner_rows(
    name: str, domain: Domain | Fixed, active: str
) -> Iterator[tuple[str, Domain | Fixed, str]]:
    if not isinstance(domain, Rates):
        yield name, domain, active
        return
    yield f"{name}.mode", Choice(domain.modes), active
    yield f"{name}.groups", Choice(domain.groups), active
    for row, each, when in rate_rows(name, domain):
        yield row, each, f"{active}, {when}"
