"""The meta-iterations of a trial, for whoever trains, times or watches them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autometa.engine.calibrate import fastest
from autometa.engine.split import SparingGradient
from autometa.engine.train import Progress, TrainState, draw, meta_train
from autometa.episodes import stream
from autometa.learners.base import Learner
from autometa.trial.spec import MEASURED, TrialSpec, dataset, strategy, training_source


def steps(
    spec: TrialSpec,
    learner: Learner[Any],
    state: TrainState,
    iterations: int,
    gradient: SparingGradient | None = None,
    chosen: str | None = None,
) -> Iterator[Progress]:
    """As :func:`~autometa.engine.train.meta_train`, on the spec's tasks, here.

    Args:
        gradient: One that knows what has to be done where memory is short.
        chosen: The engine's strategy, if not that of the spec.
    """
    return meta_train(
        learner,
        state,
        source=training_source(spec, dataset(spec), learner),
        iterations=iterations,
        strategy=chosen or strategy(spec),
        gradient=gradient or SparingGradient(),
    )


def chosen_strategy(spec: TrialSpec, learner: Learner[Any], state: TrainState) -> str:
    """That of a trial which begins: measured where the spec says so, on a batch of its own."""
    if spec.strategy != MEASURED or not learner.learned(state.params):
        return strategy(spec)
    source, generator = training_source(spec, dataset(spec), learner), stream(spec.seed, MEASURED)
    batch, moment = draw(learner, state.params, source, generator, 0.0)
    return fastest(learner, state.params, batch=batch, moment=moment)
