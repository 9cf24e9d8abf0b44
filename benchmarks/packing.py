"""How many trials an hour one device gives: one by one, several processes, or as one program.

python -m benchmarks.packing [OUT]

Up to 32 trials of MAML, which differ in their rates, on a GPU (Conv4-32, 28 x 28, 5-way 1-shot, 5
second-order steps; a trial for every process, which records its meta-iteration and replays it) or,
where there is none, on the CPU's cores (sinusoids). Processes take trial after trial; a cohort
trains its trials as one program. Start-up isn't counted. At the end two of a cohort's members must
be what they are by themselves, or it ends with an error. The table is written to OUT (a Markdown
file) as well. It needs torch and NumPy only where there is a GPU.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import torch.multiprocessing as mp
from torch import Tensor

from autometa.backbones import BACKBONES
from autometa.engine import TrainState, meta_train
from autometa.engine.cohort import train_cohort
from autometa.engine.precision import FLOAT32, set_precision
from autometa.engine.split import SparingGradient
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, REGRESSION, Encoder
from autometa.learners.maml import MAML, MAMLHyper
from autometa.learners.rates import RateVector
from benchmarks.machine import Table, machine

TRIALS = 32
WAYS = 5
CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
ITERATIONS = 200
WARM_UP = 4
TOLERANCE = 1e-6
"""Of the members' parameters, relative to their largest, in float64: in float32 Adam's first steps
go by the sign of gradients that are rounding errors, such as those of biases before a norm."""


@dataclass(frozen=True)
class Layout:
    """How the trials are run: so many processes, each of which takes so many as one program."""

    processes: int
    cohort: int

    @property
    def trials(self) -> int:
        """All of them, or as many as minutes allow."""
        return self.processes * self.cohort if CUDA else TRIALS


LAYOUTS = (
    [Layout(processes, 1) for processes in (1, 2, 4, 8)] + [Layout(1, TRIALS)]
    if CUDA
    else [Layout(1, 1), Layout(2, 1), Layout(1, 8), Layout(1, 32), Layout(2, 16)]
)


@dataclass(frozen=True)
class Noise:
    """Tasks of noise, drawn on the device: it takes as long as anything."""

    dtype: torch.dtype = torch.float32

    def sample(self, tasks: int, generator: torch.Generator) -> Task:
        seed = int(torch.randint(2**40, (), generator=generator))
        own = torch.Generator(DEVICE).manual_seed(seed)

        def half(per_class: int) -> tuple[Tensor, Tensor]:
            if not CUDA:
                x = torch.rand(tasks, 10, 1, generator=own, dtype=self.dtype)
                return x, torch.sin(3 * x)
            rows = WAYS * per_class
            x = torch.rand(tasks, rows, 1, 28, 28, generator=own, device=DEVICE, dtype=self.dtype)
            y = torch.arange(WAYS, device=DEVICE).repeat_interleave(per_class)
            return x, y.repeat(tasks, 1)

        return Task(*half(1), *half(15), ways=WAYS if CUDA else 1)


def learner_of(trial: int) -> MAML:
    """The trials differ in their outer and inner rates."""
    name, sample, shape = (
        ("conv4", {"width": 32}, (1, 28, 28)) if CUDA else ("mlp", {"depth": 2}, (1,))
    )
    space = BACKBONES.load(name)()
    backbone = space.build(space.default() | sample, shape)
    rates = RateVector("searched", "layer", ((0.01 * (1 + trial / TRIALS),),))
    hyper = MAMLHyper(inner_steps=5, inner_lr=rates, meta_lr=1e-3 * (1 + trial / TRIALS))
    problem = CLASSIFICATION if CUDA else REGRESSION
    return MAML(Encoder(backbone.module, backbone.features), hyper, problem)


def state_of(learner: MAML, dtype: torch.dtype) -> TrainState:
    params = learner.init(WAYS if CUDA else 1, torch.Generator().manual_seed(0))
    params = {name: value.to(DEVICE, dtype) for name, value in params.items()}
    return TrainState.start(learner, params, torch.Generator().manual_seed(1))


def run(
    trials: Sequence[int], iterations: int, *, cohort: bool, dtype: torch.dtype = torch.float32
) -> list[TrainState]:
    """Train some of the trials, as one program or a single one."""
    set_precision(FLOAT32)
    learners, source = [learner_of(trial) for trial in trials], Noise(dtype)
    states = [state_of(learner, dtype) for learner in learners]
    if cohort:
        train_cohort(learners, states, source=source, iterations=iterations, until=iterations)
    else:
        (learner,), (state,) = learners, states
        training = meta_train(
            learner,
            state,
            source=source,
            iterations=iterations,
            strategy="vmap",
            gradient=SparingGradient(),
        )
        for _ in training:
            pass
    if CUDA:
        torch.cuda.synchronize()
    return states


def work(layout: Layout, jobs: Any, ready: Any) -> None:
    """A process: warm up, wait for the others, then take from the queue."""
    torch.set_num_threads(1)
    run(range(layout.cohort), WARM_UP, cohort=layout.cohort > 1)
    ready.wait()
    while (first := jobs.get()) is not None:
        run(range(first, first + layout.cohort), ITERATIONS, cohort=layout.cohort > 1)


def seconds(layout: Layout) -> float:
    """All trials, from the moment when every process is warm."""
    context = mp.get_context("spawn")
    jobs, ready = context.Queue(), context.Barrier(layout.processes + 1)
    for first in [*range(0, layout.trials, layout.cohort), *[None] * layout.processes]:
        jobs.put(first)
    workers = [
        context.Process(target=work, args=(layout, jobs, ready)) for _ in range(layout.processes)
    ]
    for worker in workers:
        worker.start()
    ready.wait()
    start = time.perf_counter()
    for worker in workers:
        worker.join()
    if any(worker.exitcode for worker in workers):
        raise SystemExit(f"{layout}: a process failed")
    return time.perf_counter() - start


def check() -> float:
    """The largest difference between members of a cohort and the same trials alone.

    Raises:
        SystemExit: It is above the tolerance.
    """
    chosen, worst = (0, TRIALS - 1), 0.0
    together = run(range(TRIALS), 5, cohort=True, dtype=torch.float64)
    for trial in chosen:
        (alone,) = run([trial], 5, cohort=False, dtype=torch.float64)
        for name, value in alone.params.items():
            scale = float(value.abs().max()) + 1e-3
            worst = max(worst, float((together[trial].params[name] - value).abs().max()) / scale)
    if worst > TOLERANCE:
        raise SystemExit(f"members of a cohort differ by {worst:.1e} from the trials alone")
    return worst


def main(out: Path | None) -> None:
    torch.set_num_threads(1)
    worst = check()
    table = Table(["processes", "trials as one program", "trials an hour", "times one by one"])
    hourly: dict[Layout, float] = {}
    for layout in LAYOUTS:
        hourly[layout] = 3600 * layout.trials / seconds(layout)
        gain = hourly[layout] / hourly[LAYOUTS[0]]
        cells = [str(layout.processes), str(layout.cohort), f"{hourly[layout]:,.0f}"]
        table.add([*cells, f"{gain:.1f} ×"])
    what = "MAML, 5 steps, 4 tasks, " + ("Conv4-32, 28×28, 5-way 1-shot" if CUDA else "sinusoids")
    told = (
        f"trials of {ITERATIONS} meta-iterations ({what}); {machine(DEVICE)}, one thread "
        f"a process; members are the trials alone within {worst:.0e} after 5 iterations in float64"
    )
    table.close(told, out)


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else None)
