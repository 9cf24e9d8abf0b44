"""How long an episode takes to sample, on one core: a batch of 32 tasks, median of 50.

python -m benchmarks.episodes
"""

from __future__ import annotations

import statistics
import time

import torch

from autometa.episodes import EpisodeShape, load, stream

TASKS = 32
REPEATS = 50
SHAPES = (EpisodeShape(5, 1, 15), EpisodeShape(5, 5, 15), EpisodeShape(20, 1, 5))


def milliseconds(shape: EpisodeShape, augment: str) -> float:
    """Median time of one task, in milliseconds."""
    source = load("glyphs").source("train", shape, augment=augment)
    generator, times = stream(0, "benchmark"), list[float]()
    for _ in range(REPEATS):
        start = time.perf_counter()
        source.sample(TASKS, generator)
        times.append(time.perf_counter() - start)
    return 1000 * statistics.median(times) / TASKS


def main() -> None:
    torch.set_num_threads(1)
    print(f"glyphs, torch {torch.__version__}, one thread, batches of {TASKS} tasks")
    print(f"{'ways':>5} {'shots':>5} {'queries':>7} {'augment':>8} {'ms a task':>9}")
    for shape in SHAPES:
        for augment in ("none", "affine"):
            took = milliseconds(shape, augment)
            print(
                f"{shape.ways:5} {shape.shots:5} {shape.queries:7} {augment:>8} {took:9.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
