from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from autometa.episodes import EpisodeShape, load, stream
from autometa.errors import DataError
from autometa.testing.datasets import DatasetTestCase

SHAPE = EpisodeShape(ways=1, shots=10, queries=50)


class TestContract(DatasetTestCase):
    @pytest.fixture
    def dataset(self):
        return lambda: load("sinusoid")

    @pytest.fixture
    def shape(self) -> EpisodeShape:
        return SHAPE


def fitted(x: np.ndarray, y: np.ndarray) -> tuple[float, float, float]:
    """Amplitude, phase and largest residual, from y = a·sin x + b·cos x by least squares."""
    design = np.stack([np.sin(x), np.cos(x)], -1)
    (a, b), *_ = np.linalg.lstsq(design, y, rcond=None)
    residual = np.abs(design @ (a, b) - y).max()
    return float(np.hypot(a, b)), float(np.arctan2(-b, a)), float(residual)


def test_tasks_are_sinusoids_of_the_papers_ranges() -> None:
    batch = load("sinusoid").source("train", SHAPE).sample(2000, stream(0, "t"))
    found = []
    for task in batch.unbind():
        x = torch.cat([task.support_x, task.query_x])[:, 0].double().numpy()
        y = torch.cat([task.support_y, task.query_y])[:, 0].double().numpy()
        found.append(fitted(x, y))
    amplitude, phase, residual = np.array(found).T
    assert residual.max() < 1e-5, "support and query aren't on one curve"
    assert 0.1 - 1e-4 <= amplitude.min() < 0.15
    assert 4.95 < amplitude.max() <= 5 + 1e-4
    assert -1e-3 <= phase.min() < 0.05
    assert math.pi - 0.05 < phase.max() <= math.pi + 1e-3
    assert abs(amplitude.mean() - 2.55) < 0.15
    x = batch.query_x
    assert -5 <= x.min() < -4.99
    assert 4.99 < x.max() <= 5


def test_one_output_and_shapes() -> None:
    batch = load("sinusoid").source("test", SHAPE).sample(3, stream(0, "t"))
    assert batch.support_y.shape == (3, 10, 1)
    assert batch.query_y.shape == (3, 50, 1)
    assert batch.query_y.dtype == torch.float32


@pytest.mark.parametrize(
    ("shape", "options", "message"),
    [
        (EpisodeShape(2, 5, 5), {}, "ways is 2, but a sinusoid has 1 output"),
        (EpisodeShape(1, 5, 5, within_groups=True), {}, "no groups"),
        (EpisodeShape(1, 5, 5), {"augment": "affine"}, "augment is 'affine'"),
    ],
)
def test_impossible_episodes(shape, options, message) -> None:
    with pytest.raises(DataError, match=message):
        load("sinusoid").source("train", shape, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"amplitude_low": 6.0}, "amplitude_low is 6.0, but must be at most amplitude_high"),
        ({"x_limit": -1.0}, "x_limit is -1.0, but must be at least 0"),
        ({"x_limit": "5"}, "x_limit is '5', but must be a number"),
        ({"amplitud_low": 1.0}, "'amplitud_low'.*did you mean 'amplitude_low'"),
    ],
)
def test_bad_options(options, message) -> None:
    with pytest.raises(DataError, match=message):
        load("sinusoid", options)


def test_ranges_are_part_of_the_fingerprint() -> None:
    assert load("sinusoid").fingerprint != load("sinusoid", {"x_limit": 4.0}).fingerprint
