"""Nearest neighbour on pixels against NumPy."""

from __future__ import annotations

import numpy as np
import torch

from autometa.learners.base import CLASSIFICATION
from autometa.learners.nearest import Nearest, NearestHyper
from autometa.testing.learners import LearnerTestCase, predictions
from autometa.testing.small import small_encoder, small_tasks


class TestNearest(LearnerTestCase):
    learner = Nearest
    exact_gradient = False
    label_symmetric = True
    training_iterations = 0


def test_the_label_is_that_of_the_nearest_support_image() -> None:
    learner = Nearest(small_encoder(CLASSIFICATION), NearestHyper())
    task = next(small_tasks(CLASSIFICATION, shots=4, queries=20).unbind())
    params = {n: v.double() for n, v in learner.init(3, torch.Generator()).items()}
    support, queries = (x.flatten(1).numpy() for x in (task.support_x, task.query_x))
    distances = np.linalg.norm(queries[:, None] - support[None], axis=2)
    expected = task.support_y.numpy()[distances.argmin(1)]
    logits = predictions(learner, params, task)
    np.testing.assert_array_equal(logits.argmax(1).numpy(), expected)
    best = -10 * (distances.min(1) ** 2) / support.shape[1]
    np.testing.assert_allclose(logits.amax(1).numpy(), best)
