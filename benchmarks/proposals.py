"""How long a proposal takes with 10, 1,000 and 10,000 finished trials.

They are in memory, where Optuna keeps the finished trials of a database too once it has read them.

python -m benchmarks.proposals [SAMPLER…]
"""

from __future__ import annotations

import sys
import time
from statistics import median

import optuna
from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, create_trial

from autometa.config import SamplerConfig, load_config
from autometa.search.samplers import make_sampler
from autometa.search.space import SearchSpace, build_space

SIZES = (10, 1_000, 10_000)
PROPOSALS = 7


def finished(space: SearchSpace, count: int) -> list[FrozenTrial]:
    """Random trials with a score that has nothing to do with them."""
    study = optuna.create_study(sampler=RandomSampler(seed=0))
    distinct = []
    for _ in range(min(count, 500)):
        trial = study.ask()
        space.sample(trial)
        distinct.append(study.trials[-1])
    return [
        create_trial(
            params=distinct[i % len(distinct)].params,
            distributions=distinct[i % len(distinct)].distributions,
            value=(i * 7919 % 10007) / 10007,
        )
        for i in range(count)
    ]


def study_of(space: SearchSpace, size: int) -> optuna.Study:
    """A study with so many finished trials."""
    study = optuna.create_study(direction="maximize")
    study.add_trials(finished(space, size))
    return study


def seconds(space: SearchSpace, name: str, study: optuna.Study) -> float:
    """The median proposal, the network that it builds included."""
    found = []
    for number in range(PROPOSALS):
        start = time.perf_counter()
        study.sampler = make_sampler(SamplerConfig(name=name), 0, number)
        trial = study.ask()
        space.sample(trial)
        found.append(time.perf_counter() - start)
        study.tell(trial, 0.5)
    return median(found)


def main(names: list[str]) -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = build_space(load_config("quickstart").space, (1, 28, 28), "classification")
    print("sampler", *(f"{size:,} trials" for size in SIZES), sep=" | ")
    for name in names:
        times = (f"{seconds(space, name, study_of(space, size)):.3f} s" for size in SIZES)
        print(name, *times, sep=" | ", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:] or ["random", "tpe", "grouped_tpe", "evolution"])
