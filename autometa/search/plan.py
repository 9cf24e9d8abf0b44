"""A study's configuration, checked against its data and everything that it names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from autometa import episodes
from autometa.backbones.base import Option
from autometa.config import BaselineConfig, StudyConfig, SupernetConfig
from autometa.episodes import Dataset
from autometa.errors import ConfigError, suggestion
from autometa.learners.base import CLASSES
from autometa.learners.hyper_json import to_json
from autometa.search.checks import check_grid, check_limits, check_objectives, check_population
from autometa.search.domains import Fixed
from autometa.search.members import folder_of
from autometa.search.samplers import check_samplers
from autometa.search.space import (
    Candidate,
    SearchSpace,
    build_space,
    learner_domains,
    load_backbone,
)
from autometa.search.study import (
    MAXIMIZE,
    METRICS,
    MINIMIZE,
)
from autometa.search.supernet.training import Job, check_learner
from autometa.trial import TrialSpec, episode_shape, training_shape

BASELINE_HYPER = "baseline.hyper"
DIRECTIONS = {"classification": MAXIMIZE, "regression": MINIMIZE}


@dataclass(frozen=True)
class Plan:
    """A configuration, checked against its data: nothing in it can fail for what the user wrote."""

    config: StudyConfig
    data: Dataset
    space: SearchSpace
    job: Job | None = None

    @cached_property
    def baseline(self) -> Candidate | None:
        """The published learner that the winner is compared with."""
        return published(self.config.baseline, self.data) if self.config.baseline else None

    @property
    def direction(self) -> str:
        return DIRECTIONS[self.data.problem]

    def spec(self, candidate: Candidate | dict[str, Any]) -> TrialSpec:
        """The trial of a candidate, with the study's data, task, budget and seed."""
        values = asdict(candidate) if isinstance(candidate, Candidate) else candidate
        return spec_of(self.config, values)


def spec_of(config: StudyConfig, candidate: Mapping[str, Any]) -> TrialSpec:
    """The trial of a candidate in a study."""
    initial, start = (candidate.get(name) for name in ("initial", "start"))
    return TrialSpec(
        learner=candidate["learner"],
        hyper=candidate["hyper"],
        backbone=candidate["backbone"],
        architecture=candidate["architecture"],
        data=config.data.name,
        data_options=config.data.options,
        task=config.task.model_dump(),
        seed=config.seed,
        iterations=config.budget.iterations,
        validate_every=config.validation.every,
        validation_tasks=config.validation.tasks,
        initial=str((config.folder / initial).absolute()) if initial else None,
        seconds=config.budget.trial_time,
        earlier=tuple((until, hyper) for until, hyper in candidate.get("earlier", ())),
        start=str((config.folder / start).absolute()) if start else None,
        strategy=config.resources.strategy,
        precision=config.resources.precision,
        members=folder_of(config),
    )


def plan(config: StudyConfig) -> Plan:
    """Check a configuration against its data and everything it names.

    Raises:
        UserError: Something in it can't be run; nothing was written.
    """
    config = absolute(config)
    data = episodes.load(config.data.name, config.data.options)
    evaluation = episode_shape(config.task.model_dump())
    for split in ("validation", "test"):
        data.source(split, evaluation)
    space = build_space(config.space, data.input_shape, data.problem)
    for learner in space.learners.values():
        shape = training_shape(config.task.model_dump(), data, learner.learner.hyper_type())
        for augment in learner.options("augment"):
            data.source("train", shape, augment=augment)
        if learner.learner.trains_on == CLASSES:
            data.batches(1)
    check_limits(space)
    check_samplers(config.sampler)
    if config.sampler.name == "grid":
        check_grid(space)
    if config.scheduler.name == "pbt":
        check_population(space)
    check_objectives(config.objectives, METRICS[DIRECTIONS[data.problem]], data)
    if config.baseline:  # it is built when it is asked for: torch takes over a second at first
        _published_hyper(config.baseline, data.problem, BASELINE_HYPER)
        load_backbone(config.baseline.backbone, data.input_shape, field="baseline.backbone: ")
    planned = Plan(config, data, space)
    return replace(
        planned, job=_supernet_job(planned, config.supernet) if config.supernet else None
    )


def _supernet_job(planned: Plan, given: SupernetConfig) -> Job:
    """What the super-net is trained on; refuses what can't be."""
    backbones = planned.space.backbones
    if given.backbone is None and len(backbones) > 1:
        raise ConfigError(f"supernet.backbone is missing: name one of {', '.join(backbones)}")
    name = given.backbone or next(iter(backbones))
    if name not in backbones:
        raise ConfigError(f"supernet.backbone is {name!r}: {suggestion(name, backbones)}")
    learner = BaselineConfig(learner=given.learner, backbone=name, hyper=given.hyper)
    trial = planned.spec(published(learner, planned.data, field="supernet.hyper"))
    spec = replace(
        trial, iterations=given.iterations, validate_every=given.iterations, seconds=None
    )
    job = Job(spec, backbones[name].options, planned.space.limits)
    check_learner(job, planned.data)
    return job


def absolute(config: StudyConfig) -> StudyConfig:
    """The same configuration with paths that hold in any working directory."""
    options = dict(config.data.options)
    if isinstance(options.get("root"), str):
        options["root"] = str(Path(options["root"]).expanduser().absolute())
    return config.model_copy(
        update={
            "data": config.data.model_copy(update={"options": options}),
            "warm_start": [folder.expanduser().absolute() for folder in config.warm_start],
            "out": config.folder,
        }
    )


def published(
    given: BaselineConfig,
    data: Dataset,
    *,
    architecture: Mapping[str, Option] | None = None,
    field: str = BASELINE_HYPER,
) -> Candidate:
    """A learner with its published defaults, and a backbone with its own, but for what is given.

    Raises:
        ConfigError: An unknown name, or a hyper-parameter (of the configuration's ``field``) that
            isn't one value of its domain.
    """
    hyper = _published_hyper(given, data.problem, field)
    space = load_backbone(given.backbone, data.input_shape)
    sample = {**space.default(), **(architecture or {})}
    backbone = space.build(sample, data.input_shape)
    return Candidate(
        given.learner, hyper, given.backbone, sample, backbone.parameters, backbone.macs
    )


def _published_hyper(given: BaselineConfig, problem: str, field: str) -> dict[str, Any]:
    learner = learner_domains(given.learner, given.hyper, problem, field=field)
    hyper: dict[str, Any] = {}
    for key, value in given.hyper.items():
        domain = learner.domains[key]
        if not isinstance(domain, Fixed):
            raise ConfigError(f"{field}.{key} is {value!r}, but must be a single value")
        hyper[key] = domain.value
    return to_json(learner.learner.hyper_type(**hyper))
