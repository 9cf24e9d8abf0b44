"""What Ray Tune is not to keep of trials that ended: the study has it all."""

from __future__ import annotations

from typing import Any

from ray.tune import Callback
from ray.tune.experiment import Trial


class ForgetEnded(Callback):
    """Drops results, their statistics and configurations: 50 kB a trial, to the end of a search."""

    def on_trial_complete(
        self, iteration: int, trials: list[Trial], trial: Trial, **info: Any
    ) -> None:
        """After searcher and scheduler were told."""
        known = trial.run_metadata
        known.metric_analysis, known.metric_n_steps = {}, {}
        known.last_result = {"iteration": trial.last_result.get("iteration")}  # none is asked for
        trial._default_result_or_future = None
        trial.config, trial.evaluated_params, trial.experiment_tag = {}, {}, ""
        vars(trial)["_Trial__unresolved_config"] = {}
