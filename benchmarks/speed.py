"""One meta-iteration beside learn2learn's and higher's, on the same tasks and from equal weights.

python -m benchmarks.speed [OUT]

An iteration is the gradient over a batch of tasks and a step of SGD (with Adam the losses couldn't
be compared: its first step goes by the sign of gradients that are rounding errors). All run in turn
in one process, on all of its cores, and with glibc told to keep its memory, which helps everyone;
what is told is the median of several rounds. The losses of the first two iterations must agree, in
float64 and on two of the tasks, or it ends with an error. The table is written to OUT (a Markdown
file) as well.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from autometa.backbones import BACKBONES
from autometa.engine import TrainState, choose, meta_train
from autometa.engine.train import MAX_GRADIENT_NORM
from autometa.episodes.task import Task
from autometa.learners.anil import ANIL, ANILHyper
from autometa.learners.base import Encoder, Learner, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from benchmarks import peers
from benchmarks.iteration import ROUNDS, Same, seconds
from benchmarks.machine import Table, keep_memory, machine

WAYS, QUERIES = 5, 15
INNER_LR, META_LR = 1 / 64, 1e-2  # exact in every dtype, the first
CHECKED_TASKS = 2
TOLERANCE = 1e-9

Step = Callable[[], float]


@dataclass(frozen=True)
class Cell:
    """A line of the table: method, width of the Conv4, images, shots, tasks, inner steps."""

    method: str
    width: int
    image: tuple[int, int, int]
    shots: int
    tasks: int
    steps: int

    @property
    def told(self) -> list[str]:
        side = f"{self.image[1]}×{self.image[2]}×{self.image[0]}"
        numbers = [str(number) for number in (self.shots, self.tasks, self.steps)]
        return [self.method, f"Conv4-{self.width}", side, *numbers]


def cells() -> Iterator[Cell]:
    """Those of small images whole, and of large ones and wide networks as many as minutes allow."""
    small, large = (1, 28, 28), (3, 84, 84)
    for steps in (1, 5):
        yield Cell("MAML", 32, small, 1, 4, steps)
        yield Cell("MAML", 32, small, 1, 32, steps)
        yield Cell("MAML", 32, small, 5, 4, steps)
        yield Cell("first-order MAML", 32, small, 1, 4, steps)
        yield Cell("ANIL", 32, small, 1, 4, steps)
        yield Cell("MAML", 64, small, 1, 4, steps)
    yield Cell("MAML", 64, small, 1, 32, 1)
    yield Cell("MAML", 64, large, 1, 4, 1)
    yield Cell("MAML", 32, large, 1, 4, 5)


def batch_of(cell: Cell) -> Task:
    """Noise: it takes as long as anything."""
    generator = torch.Generator().manual_seed(1)

    def half(per_class: int) -> tuple[Tensor, Tensor]:
        rows = WAYS * per_class
        x = torch.rand(cell.tasks, rows, *cell.image, generator=generator)
        return x, torch.arange(WAYS).repeat_interleave(per_class).repeat(cell.tasks, 1)

    return Task(*half(cell.shots), *half(QUERIES), ways=WAYS)


def learner_of(cell: Cell) -> Learner[Any]:
    """Ours."""
    backbone = BACKBONES.load("conv4")().build({"width": cell.width}, cell.image)
    encoder = Encoder(backbone.module, backbone.features)
    settings: dict[str, Any] = {
        "inner_steps": cell.steps,
        "inner_lr": RateVector("fixed", "scalar", ((INNER_LR,),)),
        "meta_lr": META_LR,
        "meta_optimizer": "sgd",
        "meta_batch": cell.tasks,
    }
    if cell.method == "ANIL":
        return ANIL(encoder, ANILHyper(**settings))
    order = "first" if cell.method.startswith("first") else "second"
    return MAML(encoder, MAMLHyper(order=order, **settings))


def ours(cell: Cell, learner: Learner[Any], params: Params, batch: Task) -> Step:
    """The engine's own loop."""
    state = TrainState.start(learner, params, torch.Generator().manual_seed(0))
    strategy = choose("cpu", torch.get_num_threads(), cell.image)
    loop = meta_train(learner, state, source=Same(batch), iterations=10**6, strategy=strategy)
    return lambda: float(next(loop).loss)


def network(cell: Cell, params: Params) -> tuple[nn.Module, nn.Module]:
    """The usual Conv4 and head of torch's own layers, from the same weights."""
    layers: list[nn.Module] = []
    channels = cell.image[0]
    for _ in range(4):
        conv = nn.Conv2d(channels, cell.width, 3, padding=1)
        norm = nn.BatchNorm2d(cell.width, track_running_stats=False)
        layers += [conv, norm, nn.ReLU(), nn.MaxPool2d(2)]
        channels = cell.width
    body = nn.Sequential(*layers, nn.Flatten())
    head = nn.Linear(params["head.weight"].shape[1], WAYS)
    values = [value for name, value in params.items() if name.startswith(("encoder.", "head."))]
    with torch.no_grad():
        for parameter, value in zip([*body.parameters(), *head.parameters()], values, strict=True):
            parameter.copy_(value)
    return body.to(value.dtype), head.to(value.dtype)


def outer_step(models: tuple[nn.Module, ...], batch: Task, loss_of: Any) -> Step:
    """The usual outer loop: gradients of task after task add up; clipped as ours, a step."""
    parameters = [each for model in models for each in model.parameters()]
    optimizer = torch.optim.SGD(parameters, lr=META_LR)

    def step() -> float:
        optimizer.zero_grad()
        total = 0.0
        for task in batch.unbind():
            total += float(loss_of(task)) / len(batch.query_y)
        for parameter in parameters:
            parameter.grad.div_(len(batch.query_y))
        nn.utils.clip_grad_norm_(parameters, MAX_GRADIENT_NORM)
        optimizer.step()
        return total

    return step


def learn2learn(cell: Cell, params: Params, batch: Task) -> Step:
    """As its examples do it: ``clone``, ``adapt``, ``backward``."""
    from learn2learn.algorithms import maml

    body, head = network(cell, params)
    first_order = cell.method.startswith("first")
    anil = cell.method == "ANIL"
    wrapped = maml.MAML(
        head if anil else nn.Sequential(body, head), INNER_LR, first_order=first_order
    )

    def embed(x: Tensor) -> Tensor:
        return body(x) if anil else x

    def loss_of(task: Task) -> Tensor:
        clone = wrapped.clone()
        support = embed(task.support_x)
        for _ in range(cell.steps):
            clone.adapt(F.cross_entropy(clone(support), task.support_y))
        loss = F.cross_entropy(clone(embed(task.query_x)), task.query_y)
        loss.backward()
        return loss.detach()

    return outer_step((body, head), batch, loss_of)


def higher(cell: Cell, params: Params, batch: Task) -> Step:
    """As its examples do it."""
    import higher as peer

    body, head = network(cell, params)
    model = nn.Sequential(body, head)
    inner = torch.optim.SGD(model.parameters(), lr=INNER_LR)

    def loss_of(task: Task) -> Tensor:
        with peer.innerloop_ctx(model, inner, copy_initial_weights=False) as (fast, optimizer):
            for _ in range(cell.steps):
                optimizer.step(F.cross_entropy(fast(task.support_x), task.support_y))
            loss = F.cross_entropy(fast(task.query_x), task.query_y)
            loss.backward()
        return loss.detach()

    return outer_step((model,), batch, loss_of)


def steps_of(cell: Cell, dtype: torch.dtype) -> dict[str, Step]:
    """An iteration of each, from the same weights."""
    learner, batch = learner_of(cell), batch_of(cell)
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {name: value.to(dtype) for name, value in drawn.items()}
    inputs = {name: getattr(batch, name).to(dtype) for name in ("support_x", "query_x")}
    batch = replace(batch, **inputs)
    steps = {"ours": ours(cell, learner, params, batch)}
    steps["learn2learn"] = learn2learn(cell, params, batch)
    if cell.method == "MAML":
        steps["higher"] = higher(cell, params, batch)
    return steps


def check(cell: Cell) -> None:
    """That all do the same.

    Raises:
        SystemExit: Their losses differ.
    """
    steps = steps_of(replace(cell, tasks=CHECKED_TASKS), torch.float64)
    losses = {name: [step(), step()] for name, step in steps.items()}
    for name, found in losses.items():
        if any(abs(a - b) > TOLERANCE for a, b in zip(found, losses["ours"], strict=True)):
            raise SystemExit(f"{cell}: losses differ: {name} {found}, ours {losses['ours']}")


def measure(cell: Cell) -> dict[str, float]:
    """Median seconds of an iteration of each, after one that isn't timed."""
    check(cell)
    return seconds(steps_of(cell, torch.float32))


def line(cell: Cell, found: dict[str, float]) -> list[str]:
    peer = {name: f"{found[name] / found['ours']:.2f} ×" for name in found if name != "ours"}
    return [
        *cell.told,
        f"{1000 * found['ours']:,.0f}",
        peer["learn2learn"],
        peer.get("higher", ""),
    ]


def main(out: Path | None) -> None:
    columns = "method, network, images, shots, tasks, steps, ms an iteration, learn2learn, higher"
    table = Table(columns.split(", "))
    for cell in cells():
        table.add(line(cell, measure(cell)))
    told = (
        f"{machine()}, {peers.LEARN2LEARN}, {peers.HIGHER}; "
        f"how many times as long as ours the peers take, median of {ROUNDS}"
    )
    table.close(told, out)


if __name__ == "__main__":
    keep_memory("benchmarks.speed")
    warnings.simplefilter("ignore")
    peers.install()
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
