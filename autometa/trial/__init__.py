"""One trial: where learner, backbone and episodes meet. Knows neither Ray nor Optuna.

A :class:`TrialSpec` is names and numbers only; :func:`run_trial` trains what it says.
"""

from autometa.engine.precision import set_precision
from autometa.trial.cohort import CohortRun
from autometa.trial.need import Need, gpu_need
from autometa.trial.scoring import (
    ADAPTATION,
    ECE,
    EVALUATION_BATCH_TASKS,
    Score,
    load_params,
    score_checkpoint,
)
from autometa.trial.spec import (
    TrialSpec,
    build_learner,
    dataset,
    device,
    episode_shape,
    training_shape,
    training_source,
)
from autometa.trial.training import (
    COMPLETE,
    DIVERGED,
    ITERATIONS,
    TASKS,
    TrialReport,
    kept,
    run_trial,
    train_to_end,
)

__all__ = [
    "ADAPTATION",
    "COMPLETE",
    "DIVERGED",
    "ECE",
    "EVALUATION_BATCH_TASKS",
    "ITERATIONS",
    "TASKS",
    "CohortRun",
    "Need",
    "Score",
    "TrialReport",
    "TrialSpec",
    "build_learner",
    "dataset",
    "device",
    "episode_shape",
    "gpu_need",
    "kept",
    "load_params",
    "run_trial",
    "score_checkpoint",
    "set_precision",
    "train_to_end",
    "training_shape",
    "training_source",
]
