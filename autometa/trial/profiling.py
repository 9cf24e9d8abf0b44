"""Where the time and the memory of a trial's meta-iterations go, operator by operator."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from torch.profiler import ProfilerActivity, profile

from autometa.engine.precision import set_precision
from autometa.trial.spec import TrialSpec, build_learner, device
from autometa.trial.steps import steps
from autometa.trial.training import begun

WARM_UP = 2


@dataclass(frozen=True)
class Operator:
    """One operator of torch in a meta-iteration, with what it calls left out.

    Attributes:
        calls: Of a meta-iteration.
        ms: Of a meta-iteration, on the GPU where there is one, summed over threads.
        mib: Memory that its calls in a meta-iteration took, what they gave back subtracted.
    """

    name: str
    calls: float
    ms: float
    mib: float


def profile_iterations(spec: TrialSpec, iterations: int, trace: Path) -> list[Operator]:
    """Profile meta-iterations after two that warm up; operators, those that take longest first.

    ``trace`` is a file to write for chrome://tracing or Perfetto.

    Raises:
        Diverged: Training left the finite numbers.
    """
    set_precision(spec.precision)
    learner, _ = build_learner(spec)
    run = steps(spec, learner, begun(spec, learner), WARM_UP + iterations)
    for progress in islice(run, WARM_UP):
        float(progress.loss)  # waits for a GPU
    on_gpu = device().type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, profile_memory=True) as profiled:
        for progress in run:
            float(progress.loss)
    profiled.export_chrome_trace(str(trace))
    found = [_operator(event, iterations, on_gpu) for event in profiled.key_averages()]
    return sorted(found, key=lambda operator: operator.ms, reverse=True)


def _operator(event: Any, iterations: int, on_gpu: bool) -> Operator:
    place = "device" if on_gpu else "cpu"
    microseconds = getattr(event, f"self_{place}_time_total")
    taken = getattr(event, f"self_{place}_memory_usage")
    return Operator(
        event.key,
        event.count / iterations,
        microseconds / iterations / 1e3,
        taken / iterations / 2**20,
    )
