"""Ways to run a learner over a batch of tasks: one by one, at once, or as one batched program.

All give the same numbers, but for rounding. On a CPU, batching images by ``vmap`` is slowest: it
turns the convolutions of second-order gradients into grouped ones. Threads with one intra-op thread
each use several cores better than the parallel loops inside the operators, which few-shot batches
are too small for. Where calls are what costs, of operators on a task of few numbers (25 sinusoids:
7 times faster) or of kernels on a GPU, ``vmap`` is the choice. On a GPU where a meta-iteration is
replayed as one graph (see ``recording.py``), calls cost little, and tasks of large images are
faster on several streams: they keep the libraries' fused operators, and need less memory.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from autometa.engine.convolutions import BatchedConvolutions
from autometa.episodes.task import Task
from autometa.learners.base import CLASSIFICATION, Learner, Moment, Params

VMAP = "vmap"
STREAMS = "streams"
ON_CPU, ON_GPU = ("loop", "threads", VMAP), (VMAP, STREAMS)
STRATEGIES = (*ON_CPU, STREAMS)
"""``streams`` are a GPU's; elsewhere it is ``loop``."""
RECORDABLE = ("loop", VMAP, STREAMS)
"""Those whose work on a GPU is launched by one thread, so that it can be recorded."""
MOST_STREAMS = 16
LARGE_INPUT = 3 * 48 * 48
"""Numbers of an input."""

_spare: WeakKeyDictionary[nn.Module, list[nn.Module]] = WeakKeyDictionary()
"""Copies of modules that no thread uses now: to copy takes as long as some layers do."""

Results = dict[str, Tensor]
PerTask = Callable[[Learner[Any], Task, Tensor], tuple[Results, ...]]


def choose(device: torch.device | str, threads: int, input_shape: Sequence[int]) -> str:
    """The strategy for a device, the number of CPU threads there are to use, and an input."""
    if torch.device(device).type != "cpu":
        return STREAMS if math.prod(input_shape) >= LARGE_INPUT else VMAP
    if len(input_shape) == 1:
        return VMAP
    return "threads" if threads > 1 else "loop"


def meta_gradient(
    learner: Learner[Any],
    params: Params,
    *,
    batch: Task,
    strategy: str,
    moment: Moment | None = None,
) -> tuple[Params, Results]:
    """Gradient in the learned meta-parameters, and metrics, each the mean over a task batch.

    ``moment`` has a row of noise a task, [T, noise_size]; left out, training begins without noise.

    Raises:
        ValueError: The strategy is unknown.
    """

    tasks = len(batch.query_y)
    if moment is None:
        still = batch.query_x.new_zeros(tasks, learner.noise_size(params, batch))
        moment = Moment(0.0, still)
    progress = moment.progress

    def one(learner: Learner[Any], task: Task, noise: Tensor) -> tuple[Results, ...]:
        return learner.meta_grad(params, task, Moment(progress, noise))

    grads, metrics = over_tasks(one, learner, batch, strategy, moment.noise)
    return _means(grads), _means(metrics)


def task_scores(learner: Learner[Any], params: Params, *, batch: Task, strategy: str) -> Results:
    """``loss`` [T] and ``score`` [T] of the queries of each task, after adapting to it.

    To classify gives also ``confidence`` [T, Q], the largest class probability of each query, and
    ``correct`` [T, Q], 1 where that class is right.

    Raises:
        ValueError: The strategy is unknown.
    """

    def one(learner: Learner[Any], task: Task, _: Tensor) -> tuple[Results, ...]:
        with torch.no_grad():
            loss, prediction = learner.query_loss(params, task)
            scores = {"loss": loss, "score": learner.score(prediction, task.query_y)}
            if learner.problem == CLASSIFICATION:
                scores["confidence"], chosen = prediction.softmax(-1).max(-1)
                scores["correct"] = (chosen == task.query_y).to(prediction.dtype)
            return (scores,)

    silence = batch.query_x.new_empty(len(batch.query_y), 0)
    (scores,) = over_tasks(one, learner, batch, strategy, silence)
    return scores


def over_tasks(
    function: PerTask, learner: Learner[Any], batch: Task, strategy: str, noise: Tensor
) -> tuple[Results, ...]:
    """``function`` of each task of a batch and its row of noise, results stacked along T."""
    if strategy == VMAP:
        return _vmap(function, learner, batch, noise)
    tasks = list(zip(batch.unbind(), noise, strict=True))
    if strategy == "loop":
        results = [function(learner, *task) for task in tasks]
    elif strategy == "threads":
        results = _threads(function, learner, tasks)
    elif strategy == STREAMS:
        results = _streams(function, learner, tasks, batch.query_x.device)
    else:
        raise ValueError(f"strategy is {strategy!r}, but must be one of {', '.join(STRATEGIES)}")
    return tuple(_stack(parts) for parts in zip(*results, strict=True))


def _stack(results: Sequence[Results]) -> Results:
    return {name: torch.stack([result[name] for result in results]) for name in results[0]}


def _means(results: Results) -> Results:
    return {name: value.mean(0) for name, value in results.items()}


def _vmap(
    function: PerTask, learner: Learner[Any], batch: Task, noise: Tensor
) -> tuple[Results, ...]:
    def one(
        support_x: Tensor, support_y: Tensor, query_x: Tensor, query_y: Tensor, noise: Tensor
    ) -> Any:
        return function(learner, Task(support_x, support_y, query_x, query_y, batch.ways), noise)

    with BatchedConvolutions() if batch.query_x.is_cuda else nullcontext():
        results: tuple[Results, ...] = torch.func.vmap(one)(*batch.tensors, noise)
    return results


def _streams(
    function: PerTask,
    learner: Learner[Any],
    tasks: Sequence[tuple[Task, Tensor]],
    device: torch.device,
) -> list[tuple[Results, ...]]:
    """Results in the order of the tasks, whose work on a GPU may overlap."""
    if device.type != "cuda":
        return [function(learner, *task) for task in tasks]
    here = torch.cuda.current_stream(device)
    streams: list[Any] = [
        torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        for _ in range(min(MOST_STREAMS, len(tasks)))
    ]
    for stream in streams:
        stream.wait_stream(here)
    results = []
    for i, task in enumerate(tasks):
        with torch.cuda.stream(streams[i % len(streams)]):
            results.append(function(learner, *task))
    for stream in streams:
        here.wait_stream(stream)
    for value in (v for parts in results for part in parts for v in part.values()):
        value.record_stream(here)
    return results


def _threads(
    function: PerTask, learner: Learner[Any], tasks: Sequence[tuple[Task, Tensor]]
) -> list[tuple[Results, ...]]:
    """Results in the order of the tasks, whichever thread ran them."""
    workers = min(torch.get_num_threads(), len(tasks))
    if workers == 1:  # a single task is better off with all threads inside of its operators
        return [function(learner, *task) for task in tasks]

    def share(worker: int) -> list[tuple[Results, ...]]:
        with _own_skeleton(learner) as own:
            return [function(own, *task) for task in tasks[worker::workers]]

    with _one_thread_each(), ThreadPoolExecutor(workers, initializer=_one_thread) as pool:
        shares = list(pool.map(share, range(workers)))
    return [shares[i % workers][i // workers] for i in range(len(tasks))]


@contextmanager
def _own_skeleton(learner: Learner[Any]) -> Iterator[Learner[Any]]:
    """With a copy for another thread: ``functional_call`` swaps a module's parameters in place."""
    module = learner.encoder.module
    spare = _spare.setdefault(module, [])
    own = spare.pop() if spare else copy.deepcopy(module)
    try:
        yield replace(learner, encoder=replace(learner.encoder, module=own))
    finally:
        spare.append(own)


def _one_thread() -> None:
    torch.set_num_threads(1)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Torch's thread count is partly a thread's own and partly the process's: set and put back."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
