"""What a trial is, as names and numbers, and what these stand for: learner, data, tasks."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from functools import lru_cache
from typing import Any

import torch

from autometa import episodes
from autometa.backbones import BACKBONES
from autometa.backbones.base import BackboneSpace
from autometa.engine.precision import FLOAT32
from autometa.engine.strategies import STRATEGIES, choose
from autometa.episodes import Dataset, EpisodeShape
from autometa.episodes.task import TaskSource
from autometa.learners import LEARNERS
from autometa.learners.base import CLASSES, Encoder, Hyper, Learner
from autometa.learners.hyper_json import from_json
from autometa.trial.members import members_of

AUTO, MEASURED = "auto", "measured"


@dataclass(frozen=True)
class TrialSpec:
    """What a trial trains, on what, for how long.

    Attributes:
        task: ``ways``, ``shots``, ``queries``, ``within_groups``, ``train_within_groups``.
        seed: Of initialization and meta-training tasks. Validation tasks are the same for all.
        iterations: Meta-iterations of the full budget.
        validate_every: Meta-iterations between two reports.
        initial: A checkpoint whose ``params`` the encoder starts from, if they are its parameters.
        seconds: Training time of the full budget. The trial then measures how many meta-iterations
            it can afford, and reports them as if they were ``iterations``.
        most_tasks: Validation tasks of a scoring that is close to one of the ``rivals``.
        rivals: (meta-iteration, score) pairs that decide about the trial.
        earlier: (meta-iteration, hyper) pairs: until then, other hyper-parameters of the outer
            loop. From the last of them on, ``hyper``.
        start: The checkpoint of another trial, which this one goes on from.
        keep_every: Meta-iterations between checkpoints that are kept for others to go on from.
        strategy: One of the engine's, ``auto`` for that of :func:`strategy`, or ``measured``: each
            is tried when the trial begins.
        precision: How exactly a GPU multiplies, ``float32`` or ``tf32``.
        members: The folder of the members that the study's program registered.
    """

    learner: str
    hyper: Mapping[str, Any]
    backbone: str
    architecture: Mapping[str, Any]
    data: str
    data_options: Mapping[str, Any]
    task: Mapping[str, Any]
    seed: int
    iterations: int
    validate_every: int
    validation_tasks: int
    initial: str | None = None
    seconds: float | None = None
    most_tasks: int | None = None
    rivals: tuple[tuple[int, float], ...] = ()
    earlier: tuple[tuple[int, Mapping[str, Any]], ...] = ()
    start: str | None = None
    keep_every: int | None = None
    strategy: str = AUTO
    precision: str = FLOAT32
    members: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain values, without what isn't set."""
        unset = {each.name: each.default for each in fields(self)}
        return {name: value for name, value in asdict(self).items() if value != unset[name]}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> TrialSpec:
        pairs = {name: tuple(map(tuple, values.get(name, ()))) for name in ("rivals", "earlier")}
        return cls(**(dict(values) | pairs))

    @property
    def ways(self) -> int:
        return int(self.task["ways"])

    def phases(self) -> list[tuple[int, TrialSpec]]:
        """(meta-iteration, the spec until then), to the end of the budget."""
        parts = [(until, replace(self, hyper=hyper)) for until, hyper in self.earlier]
        return [*parts, (self.iterations, self)]


def build_learner(spec: TrialSpec) -> tuple[Learner[Any], tuple[int, ...]]:
    """The learner of a spec around its frozen backbone, and the shape of its inputs."""
    data = dataset(spec)
    with members_of(spec.members):
        space: BackboneSpace = BACKBONES.load(spec.backbone)()
        cls: type[Learner[Any]] = LEARNERS.load(spec.learner)
    backbone = space.build(spec.architecture, data.input_shape)
    hyper = from_json(cls.hyper_type, spec.hyper)
    learner = cls(
        Encoder(backbone.module, backbone.features), hyper, data.problem, data.train_classes
    )
    return learner, data.input_shape


def episode_shape(task: Mapping[str, Any]) -> EpisodeShape:
    """The tasks that a trial is scored on."""
    return EpisodeShape(task["ways"], task["shots"], task["queries"], task["within_groups"])


def training_shape(task: Mapping[str, Any], data: Dataset, hyper: Hyper) -> EpisodeShape:
    """The tasks it is trained on: the learner's multiple of the ways, if classes allow."""
    ways = task["ways"]
    if hyper.way_factor > 1:
        ways = min(ways * hyper.way_factor, max(data.train_classes, ways))
    return EpisodeShape(ways, task["shots"], task["queries"], task["train_within_groups"])


def training_source(spec: TrialSpec, data: Dataset, learner: Learner[Any]) -> TaskSource:
    """Episodes, or for those that train on classes batches of as many images as an episode has."""
    shape = training_shape(spec.task, data, learner.hyper)
    if learner.trains_on == CLASSES:
        return data.batches(shape.ways * shape.per_class, augment=learner.hyper.augment)
    return data.source("train", shape, augment=learner.hyper.augment)


def device() -> torch.device:
    """The GPU that this process was given, or the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def dataset(spec: TrialSpec) -> Dataset:
    """The data of a spec, which stay loaded in this process."""
    options = json.dumps(dict(spec.data_options), sort_keys=True)
    return _loaded(spec.members, spec.data, options, str(device()))


@lru_cache(maxsize=2)
def _loaded(members: str | None, name: str, options: str, where: str) -> Dataset:
    with members_of(members):
        return episodes.load(name, json.loads(options), device=where)


def strategy(spec: TrialSpec) -> str:
    """How the engine batches tasks: as the spec says, or by what is known of the device and data.

    The same each time, while what is measured may differ in the last bits from run to run.
    """
    if spec.strategy in STRATEGIES:
        return spec.strategy
    return choose(device(), torch.get_num_threads(), dataset(spec).input_shape)
