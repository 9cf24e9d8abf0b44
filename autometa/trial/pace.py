"""How many meta-iterations a trial can afford in the time that it has.

So learners of very different cost get the same training time, and everything else still counts
meta-iterations: schedules of the outer rate, scorings, the rungs of a scheduler.
"""

from __future__ import annotations

import time
from itertools import islice
from typing import Any

from autometa.engine.train import Diverged, TrainState
from autometa.learners.base import Learner
from autometa.trial.spec import TrialSpec, device
from autometa.trial.steps import steps

WARM_UP = 2
ENOUGH = 3
"""Meta-iterations that are timed at least."""
SHARE = 0.02
"""Of the trial's time, which timing takes if these take no longer."""


def affordable(
    spec: TrialSpec, learner: Learner[Any], state: TrainState, chosen: str | None = None
) -> int:
    """Meta-iterations of the full budget: as many as fit into ``spec.seconds``, but at least 1.

    They are timed half-way through the schedules, on a copy of the state; what else the machine
    does then is in it.

    Args:
        chosen: The engine's strategy, if not that of the spec.
    """
    if spec.seconds is None or not learner.learned(state.params):
        return spec.iterations
    budget = max(spec.iterations, 2 * (WARM_UP + ENOUGH))
    probe = TrainState.restore(learner, state.state_dict(), device=device())
    probe.iteration = budget // 2
    run = steps(spec, learner, probe, budget, chosen=chosen)
    count, spent = 0, 0.0
    try:
        for progress in islice(run, WARM_UP):
            float(progress.loss)  # waits for an accelerator
        start = time.perf_counter()
        for count, progress in enumerate(run, start=1):
            float(progress.loss)
            spent = time.perf_counter() - start
            if count >= ENOUGH and spent >= SHARE * spec.seconds:
                break
    except Diverged:
        pass  # so will the training
    return max(1, int(spec.seconds * count / spent)) if spent else spec.iterations
