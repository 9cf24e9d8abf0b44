"""A super-net's meta-training and what it says of a network; knows neither Ray nor Optuna.

Z. Guo et al., "Single Path One-Shot Neural Architecture Search with Uniform Sampling", ECCV 2020,
https://arxiv.org/abs/1904.00420: each step trains one network, drawn uniformly; afterwards every
network is scored with the weights that it shares. Here a step is a meta-iteration of a few-shot
learner, and a score that of meta-validation tasks. Statistics of batch norms, which that paper
takes anew for each network, aren't kept by our layers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from autometa.backbones import BACKBONES
from autometa.backbones.base import Backbone, Option, Sample, Shape
from autometa.config import LimitsConfig
from autometa.engine import checkpoint as checkpoints
from autometa.engine.evaluate import meta_evaluate
from autometa.engine.precision import set_precision
from autometa.engine.strategies import choose, meta_gradient
from autometa.engine.train import TrainState, meta_train
from autometa.episodes import Dataset, stream
from autometa.episodes.task import Task
from autometa.errors import ConfigError
from autometa.learners import LEARNERS
from autometa.learners.base import Encoder, Learner, Moment, Params, prefixed, under
from autometa.learners.hyper_json import from_json
from autometa.search.space import BackboneChoices
from autometa.search.supernet.paths import Paths
from autometa.search.supernet.slices import initial_shared, largest_layers, scattered, sliced
from autometa.trial import (
    EVALUATION_BATCH_TASKS,
    TrialSpec,
    build_learner,
    dataset,
    device,
    episode_shape,
    training_source,
)
from autometa.trial.members import members_of

ENCODER = "encoder"
PROBES = 8
WAY_OUT = "choose one that has the backbone's weights alone, such as protonet"


@dataclass(frozen=True)
class Job:
    """What a super-net is trained on, as JSON for another process.

    Attributes:
        spec: Learner, data, budget and seed; its architecture is any one of the backbone space.
        options: Label → the options that the study leaves of the space.
    """

    spec: TrialSpec
    options: Mapping[str, Sequence[Option]]
    limits: LimitsConfig

    def to_json(self) -> dict[str, Any]:
        options = {label: list(options) for label, options in self.options.items()}
        limits = self.limits.model_dump()
        return {"spec": self.spec.to_json(), "options": options, "limits": limits}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Job:
        limits = LimitsConfig.model_validate(values["limits"])
        return cls(TrialSpec.from_json(values["spec"]), values["options"], limits)

    def paths(self, in_shape: Shape) -> Paths:
        """The networks that the super-net shares weights between."""
        with members_of(self.spec.members):
            space = BACKBONES.load(self.spec.backbone)()
        options = {label: tuple(options) for label, options in self.options.items()}
        return Paths(self.spec.backbone, BackboneChoices(space, in_shape, options), self.limits)


def train(job: Job, checkpoint: Path, until: int) -> None:
    """Train to ``until`` meta-iterations, from the checkpoint if there is one, and renew it.

    Raises:
        Diverged: The loss or its gradient isn't finite.
    """
    set_precision(job.spec.precision)
    learner, in_shape = build_learner(job.spec)
    paths = job.paths(in_shape)
    if checkpoint.exists():
        state = TrainState.restore(learner, checkpoints.load(checkpoint), device=device())
    else:
        params = {k: v.to(device()) for k, v in initial(job, paths, learner).items()}
        state = TrainState.start(learner, params, stream(job.spec.seed, "train"))
    steps = meta_train(
        learner,
        state,
        source=training_source(job.spec, dataset(job.spec), learner),
        iterations=job.spec.iterations,
        strategy=_strategy(job),
        gradient=PathGradient(paths, job.spec.seed),
    )
    for _ in islice(steps, max(until - state.iteration, 0)):
        pass
    checkpoints.save(checkpoint, state.state_dict())


def initial(job: Job, paths: Paths, learner: Learner[Any]) -> Params:
    """Shared weights of the encoder, and the learner's other meta-parameters as they are."""
    generator = stream(job.spec.seed, "init")
    others = _others(learner.init(job.spec.ways, generator))
    layers = largest_layers(paths.covering())
    return others | prefixed(ENCODER, initial_shared(layers, generator))


@dataclass(frozen=True)
class PathGradient:
    """The meta-gradient of one network, in the shared weights; 0 where it has none.

    The network depends on the seed and on how far training is, so a resumed one draws the same.
    """

    paths: Paths
    seed: int

    def __call__(
        self,
        learner: Learner[Any],
        params: Params,
        *,
        batch: Task,
        strategy: str,
        moment: Moment,
    ) -> tuple[Params, dict[str, Tensor]]:
        backbone = self.paths.draw(f"{self.seed}/{moment.progress}")
        grads, metrics = meta_gradient(
            on_network(learner, backbone),
            weights_of(params, backbone),
            batch=batch,
            strategy=strategy,
            moment=moment,
        )
        shared = scattered(under(ENCODER, grads), under(ENCODER, params), backbone.module)
        return _others(grads) | prefixed(ENCODER, shared), metrics


def on_network(learner: Learner[Any], backbone: Backbone) -> Learner[Any]:
    """The same learner with another encoder."""
    return replace(learner, encoder=Encoder(backbone.module, backbone.features))


def weights_of(params: Params, backbone: Backbone) -> Params:
    """A network's meta-parameters: its slices, and what all networks have in common."""
    own = sliced(under(ENCODER, params), backbone.module)
    return _others(params) | prefixed(ENCODER, own)


def _others(params: Params) -> Params:
    return {name: value for name, value in params.items() if not name.startswith(f"{ENCODER}.")}


def score(job: Job, checkpoint: Path, samples: Sequence[Sample], tasks: int) -> list[float]:
    """Mean scores of networks on meta-validation tasks, with shared weights.

    The tasks are the same for all, and others than those that trials are scored on.
    """
    set_precision(job.spec.precision)
    params = checkpoints.load(checkpoint, device=device())["params"]
    learner, in_shape = build_learner(job.spec)
    space, found = job.paths(in_shape).choices.space, []
    for sample in samples:
        backbone = space.build(sample, in_shape)
        result = meta_evaluate(
            on_network(learner, backbone),
            weights_of(params, backbone),
            source=dataset(job.spec).source("validation", episode_shape(job.spec.task)),
            tasks=tasks,
            generator=stream(0, "supernet"),
            batch=EVALUATION_BATCH_TASKS,
            strategy=_strategy(job),
        )
        found.append(result.mean)
    return found


def save_weights(params: Params, backbone: Backbone, path: Path) -> None:
    """A network's encoder as a trial's initial weights."""
    own = prefixed(ENCODER, sliced(under(ENCODER, params), backbone.module))
    checkpoints.save(path, {"params": {name: value.clone() for name, value in own.items()}})


def check_learner(job: Job, data: Dataset) -> None:
    """Refuse a learner that has other weights for other networks, but for the encoder's.

    Raises:
        ConfigError: It has, or it has no encoder.
        DataError: The data have no training tasks for it.
    """
    cls, paths = LEARNERS.load(job.spec.learner), job.paths(data.input_shape)
    hyper = from_json(cls.hyper_type, job.spec.hyper)
    told = f"supernet.learner is {job.spec.learner!r}, "
    shapes: dict[str, torch.Size] = {}
    for probe in range(PROBES):
        backbone = paths.draw(f"check/{probe}")
        encoder = Encoder(backbone.module, backbone.features)
        own: Learner[Any] = cls(encoder, hyper, data.problem, data.train_classes)
        training_source(job.spec, data, own)
        params = own.init(job.spec.ways, stream(0, "check"))
        others = {name: value.shape for name, value in _others(params).items()}
        if len(others) == len(params):
            raise ConfigError(f"{told}which trains no backbone: {WAY_OUT}")
        for name, shape in others.items():
            if shape != (shapes or others).get(name):
                raise ConfigError(f"{told}whose {name} depends on the network: {WAY_OUT}")
        shapes = others


def _strategy(job: Job) -> str:
    return choose(device(), torch.get_num_threads(), dataset(job.spec).input_shape)
