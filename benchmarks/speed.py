"""One meta-iteration beside learn2learn's, higher's and torchopt's, on the same tasks and weights.

python -m benchmarks.speed [OUT]

An iteration is the gradient over a batch of tasks and a step of SGD (with Adam the losses couldn't
be compared: its first step goes by the sign of gradients that are rounding errors). All run in turn
in one process, on a GPU if there is one (multiplying in float32), else on all cores, and with glibc
told to keep its memory as in a search on such images, which helps everyone; what is told is the
median of several rounds. On a CPU learn2learn also runs in processes before and after, whose memory
is as it comes: so it is in a loop of one's own. The losses of the first two iterations must agree,
in float64 and on two of the tasks, or it ends with an error. The last column is what share of the
machine's own matrix products' speed the iteration's operations come to. The table is written to OUT
(a Markdown file) as well.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from autometa.backbones import BACKBONES
from autometa.engine import TrainState, choose, meta_gradient, meta_train
from autometa.engine.precision import FLOAT32, set_precision
from autometa.engine.recording import BEFORE_RECORDING
from autometa.engine.split import SparingGradient
from autometa.episodes.task import Task
from autometa.learners.anil import ANIL, ANILHyper
from autometa.learners.base import Encoder, Learner, Params
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.mamlpp import MAMLPP, MAMLPPHyper
from autometa.learners.protonet import ProtoNet, ProtoNetHyper
from autometa.learners.r2d2 import R2D2, R2D2Hyper
from autometa.learners.rates import RateVector
from autometa.search.malloc import kept_memory
from benchmarks import peers
from benchmarks.contestants import INNER_LR, META_LR, QUERIES, WAYS, Cell, Step, contestants
from benchmarks.iteration import DEVICE, ROUNDS, Same, seconds
from benchmarks.machine import Table, machine

CHECKED_TASKS = 2
TOLERANCE = 1e-9
ON_GPU = DEVICE == "cuda"
PEERS = ("learn2learn",) if ON_GPU else ("learn2learn", "higher", "torchopt")
SMALL, LARGE = (1, 28, 28), (3, 84, 84)
SIDE = 4096 if ON_GPU else 1024
RELEASES = (peers.LEARN2LEARN, peers.HIGHER, peers.TORCHOPT)
FOREVER = 10**18
"""Iterations in all, so that no schedule moves."""
CELL, PLAIN, OPERATIONS = "--cell", "--plain", "operations"
COLUMNS = {name: name for name in PEERS} | ({} if ON_GPU else {PLAIN: "learn2learn, plain memory"})
UNTIMED = {"ours": BEFORE_RECORDING + 1 if ON_GPU else 1}
"""On a GPU ours is recorded at first."""


def cells() -> Iterator[Cell]:
    """As many as minutes allow: on a GPU mostly batches of 32 tasks, on a CPU of 4."""
    yield from _on_gpu() if ON_GPU else _on_cpu()


def _on_cpu() -> Iterator[Cell]:
    for steps in (1, 5):
        yield Cell("MAML", 32, SMALL, 1, 4, steps)
        yield Cell("MAML", 32, SMALL, 1, 32, steps)
        yield Cell("MAML", 32, SMALL, 5, 4, steps)
        yield Cell("first-order MAML", 32, SMALL, 1, 4, steps)
        yield Cell("ANIL", 32, SMALL, 1, 4, steps)
        yield Cell("MAML", 64, SMALL, 1, 4, steps)
    yield Cell("MAML++", 32, SMALL, 1, 4, 5)
    yield Cell("ProtoNet", 32, SMALL, 1, 4, 0)
    yield Cell("R2-D2", 32, SMALL, 1, 4, 0)
    yield Cell("MAML", 64, SMALL, 1, 32, 1)
    yield Cell("MAML", 64, LARGE, 1, 4, 1)
    yield Cell("MAML", 32, LARGE, 1, 4, 5)
    yield Cell("MAML", 32, LARGE, 1, 32, 1)


def _on_gpu() -> Iterator[Cell]:
    for width, image in ((64, SMALL), (64, LARGE), (32, SMALL), (32, LARGE)):
        yield Cell("MAML", width, image, 1, 32, 5)
    for method in ("first-order MAML", "ANIL", "MAML++"):
        yield Cell(method, 64, SMALL, 1, 32, 5)
    yield Cell("ProtoNet", 64, SMALL, 1, 32, 0)
    yield Cell("R2-D2", 64, SMALL, 1, 32, 0)
    yield Cell("MAML", 64, SMALL, 1, 32, 1)
    yield Cell("MAML", 64, SMALL, 5, 32, 5)
    yield Cell("MAML", 64, SMALL, 1, 4, 5)
    yield Cell("MAML", 64, LARGE, 1, 32, 1)


def batch_of(cell: Cell) -> Task:
    """Noise: it takes as long as anything."""
    generator = torch.Generator().manual_seed(1)

    def half(per_class: int) -> tuple[Tensor, Tensor]:
        rows = WAYS * per_class
        x = torch.rand(cell.tasks, rows, *cell.image, generator=generator)
        y = torch.arange(WAYS).repeat_interleave(per_class).repeat(cell.tasks, 1)
        return x.to(DEVICE), y.to(DEVICE)

    return Task(*half(cell.shots), *half(QUERIES), ways=WAYS)


def learner_of(cell: Cell) -> Learner[Any]:
    """Ours."""
    backbone = BACKBONES.load("conv4")().build({"width": cell.width}, cell.image)
    encoder = Encoder(backbone.module, backbone.features)
    outer: dict[str, Any] = {"meta_lr": META_LR, "meta_optimizer": "sgd", "meta_batch": cell.tasks}
    if cell.method == "ProtoNet":
        return ProtoNet(encoder, ProtoNetHyper(learn_scale=False, **outer))
    if cell.method == "R2-D2":
        return R2D2(encoder, R2D2Hyper(**outer))
    rates = RateVector("fixed", "scalar", ((INNER_LR,),))
    inner = outer | {"inner_steps": cell.steps, "inner_lr": rates}
    if cell.method == "ANIL":
        return ANIL(encoder, ANILHyper(**inner))
    if cell.method == "MAML++":  # as much of it as learn2learn's example has
        off = ("order_annealing", "running_statistics", "per_step_affine")
        return MAMLPP(encoder, MAMLPPHyper(**inner | dict.fromkeys(off, False)))
    order = "first" if cell.method.startswith("first") else "second"
    return MAML(encoder, MAMLHyper(order=order, **inner))


def ours(cell: Cell, learner: Learner[Any], params: Params, batch: Task) -> Step:
    """The engine's own loop."""
    state = TrainState.start(learner, params, torch.Generator().manual_seed(0))
    strategy = choose(DEVICE, torch.get_num_threads(), cell.image)
    loop = meta_train(
        learner,
        state,
        source=Same(batch),
        iterations=FOREVER,
        strategy=strategy,
        gradient=SparingGradient(),
    )
    return lambda: float(next(loop).loss)


def steps_of(cell: Cell, dtype: torch.dtype) -> dict[str, Step]:
    """An iteration of each, from the same weights."""
    learner, batch = learner_of(cell), batch_of(cell)
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {name: value.to(DEVICE, dtype) for name, value in drawn.items()}
    inputs = {name: getattr(batch, name).to(dtype) for name in ("support_x", "query_x")}
    batch = replace(batch, **inputs)
    others = contestants(cell, params, batch, PEERS)
    return {"ours": ours(cell, learner, params, batch)} | others


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


def operations(cell: Cell) -> float:
    """Floating-point operations of an iteration: those of its convolutions and matrix products."""
    learner, batch = learner_of(cell), batch_of(replace(cell, tasks=1))
    drawn = learner.init(WAYS, torch.Generator().manual_seed(0))
    params = {name: value.to(DEVICE) for name, value in drawn.items()}
    with FlopCounterMode(display=False) as counter:
        meta_gradient(learner, params, batch=batch, strategy="loop")
    return float(cell.tasks * counter.get_total_flops())


def peak() -> float:
    """Operations a second of large matrix products."""
    a, best = torch.rand(SIDE, SIDE, device=DEVICE), 0.0
    for _ in range(10):
        start = time.perf_counter()
        float((a @ a)[0, 0])
        best = max(best, 2 * SIDE**3 / (time.perf_counter() - start))
    return best


def measured(cell: Cell) -> dict[str, float]:
    """Seconds of each, and how many operations there are.

    Raises:
        SystemExit: They don't do the same.
    """
    check(cell)
    return seconds(steps_of(cell, torch.float32), UNTIMED) | {OPERATIONS: operations(cell)}


def apart(index: int, cell: Cell) -> dict[str, float]:
    """:func:`measured` by a process that keeps its memory as a trial on such images does.

    And learn2learn alone by processes before and after it whose memory is as it comes.
    """
    kept = kept_memory(torch.get_num_threads(), cell.image)
    plain = [_child(index, PLAIN, {})]
    found = _child(index, CELL, kept)
    plain.append(_child(index, PLAIN, {}))
    if plain[0]:
        found[PLAIN] = mean(each["learn2learn"] for each in plain)
    return found


def _child(index: int, what: str, told: dict[str, str]) -> dict[str, float]:
    others = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    command = [sys.executable, "-m", "benchmarks.speed", what, str(index)]
    done = subprocess.run(command, env=others | told, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(done.returncode)
    return dict(json.loads(done.stdout))


def alone(cell: Cell) -> dict[str, float]:
    """Seconds of learn2learn, where it has the method."""
    steps = steps_of(cell, torch.float32)
    return seconds({name: step for name, step in steps.items() if name == "learn2learn"})


def line(cell: Cell, found: dict[str, float], fastest: float) -> list[str]:
    took = found["ours"]
    ratios = [f"{found[name] / took:.2f} ×" if name in found else "" for name in COLUMNS]
    share = f"{100 * found[OPERATIONS] / took / fastest:.0f} %"
    return [*cell.told, f"{1000 * took:,.0f}", *ratios, share]


def main(out: Path | None) -> None:
    fastest = peak()
    columns = "method, network, images, shots, tasks, steps, ms an iteration"
    table = Table([*columns.split(", "), *COLUMNS.values(), "of the peak"])
    for index, cell in enumerate(cells()):
        table.add(line(cell, measured(cell) if ON_GPU else apart(index, cell), fastest))
    releases = [each for each in RELEASES if each.partition("-")[0] in PEERS]
    told = (
        f"{machine(DEVICE)}, {', '.join(releases)}; "
        f"how many times as long as ours the peers take, median of {ROUNDS}; "
        f"the peak is {fastest / 1e9:,.0f} GFLOP/s"
    )
    table.close(told, out)


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    set_precision(FLOAT32)
    peers.install(() if ON_GPU else peers.OTHERS)
    if sys.argv[1:2] in ([CELL], [PLAIN]):
        what = {CELL: measured, PLAIN: alone}[sys.argv[1]]
        print(json.dumps(what(list(cells())[int(sys.argv[2])])))
    else:
        main(Path(sys.argv[1]) if sys.argv[1:] else None)
