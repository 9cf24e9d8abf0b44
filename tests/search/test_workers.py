"""Searches with several workers at a time, and with parts of a GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ray_warnings import RAY_WARNINGS

from autometa.config import StudyConfig
from autometa.errors import ConfigError
from autometa.search import run
from autometa.search.study import load_optuna_study, rows_of

Make = Callable[..., StudyConfig]
pytestmark = [pytest.mark.usefixtures("wide_ray_here"), *RAY_WARNINGS]


def rows(config: StudyConfig) -> list[Any]:
    return rows_of(load_optuna_study(config))


ALIKE: dict[str, Any] = {
    "sampler": {"name": "random"},
    "scheduler": {"name": "none"},
    "baseline": None,
}


@pytest.fixture(scope="module")
def quarters(
    small_in: Make, tmp_path_factory: pytest.TempPathFactory, wide_ray_here: None
) -> StudyConfig:
    """A quarter of Ray's one logical GPU each: four trials run at a time, and no more."""
    config = small_in(
        tmp_path_factory.mktemp("quarters"),
        **ALIKE,
        resources={"concurrency": 8, "gpus_per_trial": 0.25, "cpus_per_trial": 0.5},
        # Each task on a GPU has a process of its own: the fewer the sooner.
        finalists={"count": 2, "seeds": 1, "max_tasks": 20},
    )
    run.search(config)
    return config


def test_gpu_fractions_are_scheduled(quarters: StudyConfig) -> None:
    assert len(rows(quarters)) == quarters.budget.trials


def test_a_trial_is_the_same_with_four_workers(quarters: StudyConfig, small: Make) -> None:
    """Proposals may differ with what is known when; the training of a candidate may not."""
    config = small(**ALIKE, finalists={"count": 1, "seeds": 1})
    run.search(config)
    one, four = ({t.number: (t.params, t.curve) for t in rows(c)} for c in (config, quarters))
    assert one == four


def test_more_gpus_than_there_are_is_refused(small: Make) -> None:
    config = small(resources={"gpus_per_trial": 2})
    with pytest.raises(ConfigError, match="gpus_per_trial is 2, but Ray has 1 GPUs"):
        run.search(config)
    assert not config.folder.exists()
