"""What a trial needs of a GPU: its memory, and how long it is at work."""

from __future__ import annotations

import time
from dataclasses import dataclass
from itertools import islice

import torch
from torch.profiler import ProfilerActivity, profile

from autometa.engine.precision import set_precision
from autometa.trial.scoring import EVALUATION_BATCH_TASKS, VALIDATION, score_tasks
from autometa.trial.spec import TrialSpec, build_learner, device
from autometa.trial.steps import steps
from autometa.trial.training import begun

WARM_UP = 3
WATCHED = 10


@dataclass(frozen=True)
class Need:
    """Of one GPU.

    Attributes:
        memory: Share of its memory that the trial's process has at most.
        busy: Share of the time that kernels run in.
    """

    memory: float
    busy: float


def gpu_need(spec: TrialSpec) -> Need | None:
    """Measure a few meta-iterations and a scoring; None where torch sees no GPU.

    Raises:
        torch.OutOfMemoryError: The GPU is too small for a single task.
        Diverged: Training left the finite numbers.
    """
    set_precision(spec.precision)
    if device().type != "cuda":
        return None
    learner, _ = build_learner(spec)
    state = begun(spec, learner)
    run = steps(spec, learner, state, WARM_UP + WATCHED)
    for progress in islice(run, WARM_UP):
        float(progress.loss)  # waits for the GPU
    start = time.perf_counter()
    with profile(activities=[ProfilerActivity.CUDA]) as profiled:
        for _ in run:
            pass
        torch.cuda.synchronize()
        spent_us = 1e6 * (time.perf_counter() - start)
    kernels_us = sum(event.self_device_time_total for event in profiled.key_averages())
    score_tasks(spec, learner, state.params, VALIDATION, VALIDATION, EVALUATION_BATCH_TASKS)
    free, total = torch.cuda.mem_get_info()
    # What is taken now beyond the tensors is the context and other processes; of tensors, the most.
    beyond = total - free - torch.cuda.memory_reserved()
    memory = (beyond + torch.cuda.max_memory_reserved()) / total
    return Need(min(1.0, memory), min(1.0, kernels_us / spent_us))
