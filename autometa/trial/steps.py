"""The meta-iterations of a trial, for whoever trains, times or watches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autometa.engine.split import SparingGradient
from autometa.engine.train import Progress, TrainState, meta_train
from autometa.learners.base import Learner
from autometa.trial.spec import TrialSpec, dataset, strategy, training_source


def steps(
    spec: TrialSpec,
    learner: Learner[Any],
    state: TrainState,
    iterations: int,
    gradient: SparingGradient | None = None,
) -> Iterator[Progress]:
    """As :func:`~autometa.engine.train.meta_train`, on the spec's tasks, here.

    Args:
        gradient: One that knows what has to be done where memory is short.
    """
    return meta_train(
        learner,
        state,
        source=training_source(spec, dataset(spec), learner),
        iterations=iterations,
        strategy=strategy(spec),
        gradient=gradient or SparingGradient(),
    )
