"""Predictive bands of the learners that have them, on a sinusoid they have never seen: a picture.

python -m benchmarks.predictive_bands docs/bands.png

Each is trained as by ``autometa bench learners learners_sinusoid``, and then given one, three
and ten points of the same curve. Drawn are the mean and two standard deviations to either side.
"""

from __future__ import annotations

import argparse
import tempfile
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import matplotlib
import torch
from torch import Tensor

from autometa import episodes, load_config
from autometa.bench.learners import learner_spec
from autometa.episodes import EpisodeShape, Task, stream
from autometa.trial import TrialSpec, build_learner, load_params, train_to_end

LEARNERS = ("cnp", "platipus", "bmaml")
POINTS = (1, 3, 10)
GRID = 400
CURVE = 1
"""Seed of the curve."""

Band = tuple[Tensor, Tensor]


def bands(spec: TrialSpec, curve: Task) -> list[Band]:
    """Train a learner; mean and standard deviation on the curve after its first points."""
    torch.set_num_threads(1)
    learner, _ = build_learner(spec)
    with tempfile.TemporaryDirectory() as folder:
        checkpoint = Path(folder) / "checkpoint.pt"
        train_to_end(spec, checkpoint)
        params = load_params(checkpoint)
    found = []
    with torch.no_grad():
        for points in POINTS:
            fast = learner.adapt(params, curve.support_x[:points], curve.support_y[:points], 1)
            spread = learner.spread(params, fast, curve.query_x)
            assert spread is not None
            found.append((learner.predict(params, fast, curve.query_x), spread))
    return found


def sorted_curve() -> Task:
    """A meta-test curve; its queries are many and in order."""
    source = episodes.load("sinusoid").source("test", EpisodeShape(1, max(POINTS), GRID))
    (task,) = source.sample(1, stream(CURVE, "curve")).unbind()
    order = task.query_x[:, 0].argsort()
    return Task(task.support_x, task.support_y, task.query_x[order], task.query_y[order], 1)


def draw(found: dict[str, list[Band]], curve: Task) -> Any:
    """A row for each learner, a column for each number of points."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(
        len(found), len(POINTS), figsize=(10, 7), sharex=True, sharey=True, layout="constrained"
    )
    line = curve.query_x[:, 0]
    for row, (name, each) in zip(axes, found.items(), strict=True):
        for axis, points, (mean, spread) in zip(row, POINTS, each, strict=True):
            low, high = mean - 2 * spread, mean + 2 * spread
            axis.fill_between(line, low[:, 0], high[:, 0], alpha=0.25)
            axis.plot(line, mean[:, 0])
            axis.plot(line, curve.query_y[:, 0], "k:", linewidth=1)
            axis.plot(curve.support_x[:points, 0], curve.support_y[:points, 0], "ko", markersize=4)
            axis.set_ylim(-7, 7)
            axis.set_title(f"{name}: {points} point{'s' * (points > 1)}", fontsize=10)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("picture", type=Path)
    parser.add_argument("--set", action="append", default=[], metavar="A.B=C")
    given = parser.parse_args()
    config = load_config("learners_sinusoid", given.set)
    data = episodes.load(config.data.name, config.data.options)
    curve = sorted_curve()
    with ProcessPoolExecutor(config.resources.concurrency, get_context("spawn")) as pool:
        specs = [learner_spec(name, config, data) for name in LEARNERS]
        found = dict(zip(LEARNERS, pool.map(bands, specs, [curve] * len(specs)), strict=True))
    draw(found, curve).savefig(given.picture, dpi=110)


if __name__ == "__main__":
    main()
