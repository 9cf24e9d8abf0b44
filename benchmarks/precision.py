"""What a GPU's ways to multiply do to a meta-gradient, and to what is learned by it.

python -m benchmarks.precision [OUT]

Second-order MAML with 5 inner steps (Conv4-32) on glyphs, 5-way 1-shot. The error is that of the
first meta-gradient of 32 tasks, in norm, relative to float64's. Accuracy is of meta-validation
tasks, its interval over the seeds. The table is written to OUT (a Markdown file) as well. It needs
torch and NumPy only; without a GPU there is one way to multiply.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean, stdev

import torch
from torch import Tensor

from autometa.backbones import BACKBONES
from autometa.engine import TrainState, meta_evaluate, meta_gradient, meta_train
from autometa.engine.precision import FLOAT32, TF32, set_precision
from autometa.engine.recording import BEFORE_RECORDING
from autometa.engine.split import SparingGradient
from autometa.episodes import EpisodeShape, load, stream
from autometa.episodes.dataset import Dataset
from autometa.episodes.task import Task
from autometa.learners.base import Encoder, Moment, Params
from autometa.learners.maml import MAML, MAMLHyper
from benchmarks.iteration import DEVICE, seconds
from benchmarks.machine import Table, machine

SHAPE = EpisodeShape(5, 1, 15)
TIMED_TASKS, EVALUATED_TASKS = 32, 300
ITERATIONS = 400
SEEDS = 3


@dataclass(frozen=True)
class Way:
    """A precision of products, and of all numbers."""

    name: str
    products: str
    dtype: torch.dtype = torch.float32
    trained: bool = True


WAYS = (
    (Way("float32", FLOAT32), Way("tf32", TF32), Way("bfloat16", TF32, torch.bfloat16, False))
    if DEVICE == "cuda"
    else (Way("float32", FLOAT32),)
)


def learner_of(data: Dataset) -> MAML:
    backbone = BACKBONES.load("conv4")().build({"width": 32}, data.input_shape)
    return MAML(Encoder(backbone.module, backbone.features), MAMLHyper(meta_batch=4))


def initial(learner: MAML, seed: int) -> Params:
    drawn = learner.init(SHAPE.ways, stream(seed, "init"))
    return {name: value.to(DEVICE) for name, value in drawn.items()}


def cast(params: Params, batch: Task, dtype: torch.dtype) -> tuple[Params, Task]:
    inputs = {name: getattr(batch, name).to(dtype) for name in ("support_x", "query_x")}
    return {name: value.to(dtype) for name, value in params.items()}, replace(batch, **inputs)


def flat(grads: Params) -> Tensor:
    return torch.cat([grads[name].double().flatten() for name in sorted(grads)])


def first_gradient(way: Way, data: Dataset, batch: Task) -> tuple[float, float]:
    """Its relative error, and the seconds that one takes."""
    learner = learner_of(data)
    params = initial(learner, 0)
    exact_params, exact_batch = cast(params, batch, torch.float64)
    exact = meta_gradient(learner, exact_params, batch=exact_batch, strategy="vmap")[0]
    own, cut = cast(params, batch, way.dtype)
    moment = Moment(0.0, cut.query_x.new_zeros(TIMED_TASKS, 0))
    gradient, found = SparingGradient(), list[Params]()

    def step() -> float:
        grads, metrics = gradient(learner, own, batch=cut, strategy="vmap", moment=moment)
        found[:] = [grads]
        return float(metrics["loss"])

    took = seconds({0: step}, {0: BEFORE_RECORDING + 1})[0]
    error = (flat(found[0]) - flat(exact)).norm() / flat(exact).norm()
    return float(error), took


def accuracy(data: Dataset, seed: int) -> float:
    """On meta-validation tasks, after meta-training."""
    learner = learner_of(data)
    state = TrainState.start(learner, initial(learner, seed), stream(seed, "train"))
    training = meta_train(
        learner,
        state,
        source=data.source("train", SHAPE),
        iterations=ITERATIONS,
        strategy="vmap",
        gradient=SparingGradient(),
    )
    for _ in training:
        pass
    return meta_evaluate(
        learner,
        state.params,
        source=data.source("validation", SHAPE),
        tasks=EVALUATED_TASKS,
        generator=stream(0, "validation"),
        batch=20,
        strategy="vmap",
    ).mean


def main(out: Path | None) -> None:
    data = load("glyphs", {}, device=DEVICE)
    batch = data.source("train", SHAPE).sample(TIMED_TASKS, stream(0, "timed"))
    table = Table(["numbers", "ms a meta-gradient", "its error", "accuracy"])
    for way in WAYS:
        set_precision(way.products)
        error, took = first_gradient(way, data, batch)
        cells = [way.name, f"{1000 * took:.0f}", f"{100 * error:.1f} %"]
        scores = [accuracy(data, seed) for seed in range(SEEDS)] if way.trained else []
        table.add([*cells, _told(scores)])
    told = (
        f"MAML, 5 second-order steps, Conv4-32, glyphs {data.input_shape[1]}×{data.input_shape[2]},"
        f" 5-way 1-shot; {TIMED_TASKS} tasks a timed meta-gradient; accuracy of {EVALUATED_TASKS} "
        f"meta-validation tasks after {ITERATIONS} meta-iterations of 4 tasks, {SEEDS} seeds and "
        f"the 95 % interval over them; {machine(DEVICE)}"
    )
    table.close(told, out)


def _told(scores: list[float]) -> str:
    if not scores:
        return ""
    half = 4.303 * stdev(scores) / len(scores) ** 0.5  # Student's t, 2 degrees of freedom
    return f"{100 * mean(scores):.1f} ± {100 * half:.1f} %"


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
