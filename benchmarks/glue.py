"""Ray Tune as it is glued by hand: its OptunaSearch and its ASHA around a function.

The function does next to nothing. There is neither a database nor a checkpoint.

python -m benchmarks.glue prints a line at the first result.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

DIMENSIONS = 8
CONCURRENCY = 2


def nothing(config: dict[str, Any]) -> None:
    """One step of a small network."""
    import torch

    network = torch.nn.Linear(10, 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=config["rate_0"])
    network(torch.ones(1, 10)).sum().backward()
    optimizer.step()
    tune.report({"score": 0.5, "training_iteration": 1})


class Ends(tune.Callback):
    """When each trial ended, in seconds since the epoch."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_trial_complete(self, *_: Any, **__: Any) -> None:
        self.times.append(time.time())
        if len(self.times) == 1:
            print("1 trial", flush=True)


def search(out: Path, trials: int, reuse: bool) -> list[float]:
    """When each trial ended."""
    ends = Ends()
    tuner = tune.Tuner(
        nothing,
        param_space={f"rate_{i}": tune.loguniform(1e-4, 1e-1) for i in range(DIMENSIONS)},
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(metric="score", mode="max"),
            scheduler=ASHAScheduler(metric="score", mode="max"),
            num_samples=trials,
            max_concurrent_trials=CONCURRENCY,
            reuse_actors=reuse,
        ),
        run_config=tune.RunConfig(storage_path=str(out), verbose=0, callbacks=[ends]),
    )
    tuner.fit()
    return ends.times


if __name__ == "__main__":
    ray.init(num_cpus=CONCURRENCY, dashboard_host="127.0.0.1", log_to_driver=False)
    with tempfile.TemporaryDirectory() as folder:
        search(Path(folder), CONCURRENCY, reuse=True)
