"""A study from its configuration to its result: trials, finalists, winner, meta-test."""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import optuna

from autometa import episodes
from autometa.backbones.base import Option
from autometa.config import BaselineConfig, StudyConfig, SupernetConfig, parse_config
from autometa.episodes import Dataset
from autometa.errors import ConfigError, StudyError, suggestion
from autometa.learners.hyper_json import to_json
from autometa.search.checks import check_grid, check_limits, check_objectives, check_population
from autometa.search.cluster import check_resources, ray_session
from autometa.search.conclude import conclude
from autometa.search.domains import Fixed
from autometa.search.earlier import read_earlier, to_text
from autometa.search.events import Observer, SearchStarted, ignore
from autometa.search.folder import StudyFolder, create_folder, write_json
from autometa.search.packing import packed
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
    counted,
    create_study,
    load_optuna_study,
    rows_of,
    storage_of,
)
from autometa.search.supernet.phase import prepare
from autometa.search.supernet.training import Job, check_learner
from autometa.search.tuner import run_trials
from autometa.trial import TrialSpec, episode_shape, training_shape

DIRECTIONS = {"classification": MAXIMIZE, "regression": MINIMIZE}


class Interrupted(Exception):  # noqa: N818 - it is an end, not an error
    """The search was stopped before its budget was spent; it can be resumed."""


@dataclass(frozen=True)
class Plan:
    """A configuration, checked against its data: nothing in it can fail for what the user wrote."""

    config: StudyConfig
    data: Dataset
    space: SearchSpace
    baseline: Candidate | None
    job: Job | None = None

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
    check_limits(space)
    check_samplers(config.sampler)
    if config.sampler.name == "grid":
        check_grid(space)
    if config.scheduler.name == "pbt":
        check_population(space)
    check_objectives(config.objectives, METRICS[DIRECTIONS[data.problem]], data)
    baseline = published(config.baseline, data) if config.baseline else None
    planned = Plan(config, data, space, baseline)
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
    field: str = "baseline.hyper",
) -> Candidate:
    """A learner with its published defaults, and a backbone with its own, but for what is given.

    Raises:
        ConfigError: An unknown name, or a hyper-parameter (of the configuration's ``field``) that
            isn't one value of its domain.
    """
    learner = learner_domains(given.learner, given.hyper, data.problem, field=field)
    space = load_backbone(given.backbone, data.input_shape)
    sample = {**space.default(), **(architecture or {})}
    backbone = space.build(sample, data.input_shape)
    hyper: dict[str, Any] = {}
    for key, value in given.hyper.items():
        domain = learner.domains[key]
        if not isinstance(domain, Fixed):
            raise ConfigError(f"{field}.{key} is {value!r}, but must be a single value")
        hyper[key] = domain.value
    return Candidate(
        given.learner,
        to_json(learner.learner.hyper_type(**hyper)),
        given.backbone,
        sample,
        backbone.parameters,
        backbone.macs,
    )


def search(config: StudyConfig, observer: Observer = ignore) -> StudyFolder:
    """Run a new study to its end.

    Raises:
        UserError: Bad input; nothing is left behind.
        Interrupted: Stopped by the user; the study folder can be resumed.
    """
    planned = plan(config)
    earlier = read_earlier(planned.config, planned.space)
    folder = create_folder(
        planned.config,
        {"name": planned.data.name, "fingerprint": planned.data.fingerprint},
        to_text(earlier) if earlier else None,
    )
    with ExitStack() as stack:
        try:
            storage = storage_of(planned.config)
            dashboard = stack.enter_context(_session(planned.config, folder))
            study = create_study(planned.config, storage, planned.direction)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        _drive(planned, folder, study, observer, dashboard)
    return folder


def resume(folder: Path, observer: Observer = ignore, storage: str | None = None) -> StudyFolder:
    """Go on with a study, wherever it was when its process ended.

    Raises:
        UserError: No study there, its data have changed, or another process drives it.
        Interrupted: Stopped by the user again.
    """
    home = StudyFolder(folder)
    config = home.config()
    if storage:
        config = parse_config(config.model_dump(mode="json") | {"storage": storage})
    try:
        study = load_optuna_study(config)
    except StudyError:
        if config.storage is not None or not home.untouched():
            raise
        study = None  # its process died before the first trial was proposed
    planned = plan(config)
    known = home.manifest().get("data", {}).get("fingerprint")
    if known != planned.data.fingerprint:
        raise StudyError(
            f"the data of study {str(folder)!r} have changed since it was begun: "
            "its scores can't be continued; start a new study"
        )
    if study is None:
        study = create_study(config, storage_of(config), planned.direction)
    if home.read_result() is not None:  # at most its bundle and report are missing
        observer(SearchStarted(planned.config, planned.direction, counted(rows_of(study)), None))
        return home
    with _session(planned.config, home) as dashboard:
        _drive(planned, home, study, observer, dashboard)
    return home


@contextmanager
def _session(config: StudyConfig, folder: StudyFolder) -> Iterator[str | None]:
    """The study is ours alone, and Ray can run its trials; yields the dashboard's URL."""
    with folder.lock(), ray_session(config.resources, config.address) as dashboard:
        check_resources(config.resources)
        yield dashboard


def _drive(
    planned: Plan,
    folder: StudyFolder,
    study: optuna.Study,
    observer: Observer,
    dashboard: str | None,
) -> None:
    config = packed(planned.config, planned.space, planned.spec)
    observer(SearchStarted(config, planned.direction, counted(rows_of(study)), dashboard))
    try:
        space = planned.space
        if planned.job is not None:
            space = prepare(planned.job, space, config, study, observer)
        if not run_trials(study, space, config, planned.spec, observer):
            raise Interrupted(str(folder.path))
        folder.drop_kept()
        write_json(
            folder.result, conclude(replace(planned, config=config), folder, study, observer)
        )
    except KeyboardInterrupt:
        raise Interrupted(str(folder.path)) from None
