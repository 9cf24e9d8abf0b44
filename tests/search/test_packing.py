"""How many trials share a GPU where the configuration says ``auto``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from ray_warnings import RAY_WARNINGS
from small_studies import SMALL, merged

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.report.plain import PlainView
from autometa.search import run
from autometa.search.events import Event, SearchStarted
from autometa.search.packing import MOST, USABLE, costliest, share_of
from autometa.search.plan import plan
from autometa.search.study import load_optuna_study, rows_of
from autometa.trial import Need, gpu_need

Make = Callable[..., StudyConfig]
pytestmark = RAY_WARNINGS
SHARES = st.floats(0.001, 1.0)


@pytest.mark.parametrize(
    ("memory", "busy", "share"),
    [
        (0.05, 1.0, 1.0),  # the GPU has no more to give
        (0.05, 0.3, 0.25),  # four of them keep it at work
        (0.4, 0.1, 0.5),  # ten would, but two fit
        (0.95, 0.1, 1.0),
        (0.001, 0.001, 1 / MOST),
    ],
)
def test_as_many_as_fit_and_as_keep_it_at_work(memory: float, busy: float, share: float) -> None:
    assert share_of(Need(memory, busy)) == pytest.approx(share, abs=1e-4)


@given(SHARES, SHARES)
def test_what_shares_a_gpu_fits_on_it(memory: float, busy: float) -> None:
    share = share_of(Need(memory, busy))
    assert 0 < share <= 1
    trials = int(1 / share)
    assert trials == 1 or trials * memory <= USABLE
    assert trials <= MOST
    assert trials * share <= 1
    assert round(share * 10_000) == pytest.approx(share * 10_000), "Ray counts in these"


def test_where_nothing_is_known_a_trial_has_a_whole_gpu() -> None:
    assert share_of(None) == 1.0


def test_the_costliest_candidate_computes_most(small: Make) -> None:
    config = small(space={"learners": {"maml": {"meta_batch": [1, 8]}}})
    space = plan(config).space
    found = costliest(space)
    assert found == costliest(space)
    assert (found.hyper["meta_batch"], found.hyper["inner_steps"]) == (8, 2)
    assert found.architecture["depth"] == 2
    limits = config.space.limits.model_copy(update={"max_parameters": 200})
    limited = config.model_copy(
        update={"space": config.space.model_copy(update={"limits": limits})}
    )
    assert costliest(plan(limited).space).parameters <= 200


def test_without_a_gpu_nothing_is_measured(small: Make) -> None:
    planned = plan(small())
    assert gpu_need(planned.spec(costliest(planned.space))) is None


@pytest.mark.usefixtures("wide_ray_here")
def test_auto_gives_a_whole_one_of_ray_s_gpus_that_torch_does_not_see(small: Make) -> None:
    # Each task on a GPU has a process of its own: the fewer the sooner.
    over = {"resources": {"gpus_per_trial": "auto"}, "finalists": {"count": 1, "seeds": 1}}
    config, events = small(**over, baseline=None), list[Event]()
    folder = run.search(config, events.append)
    (started,) = (event for event in events if isinstance(event, SearchStarted))
    assert started.config.resources.gpus_per_trial == 1.0
    assert folder.config().resources.gpus_per_trial == "auto", "it is measured anew on resuming"
    assert len(rows_of(load_optuna_study(config))) == config.budget.trials


def test_the_heading_tells_it(small: Make, capsys: pytest.CaptureFixture[str]) -> None:
    from rich.console import Console

    view = PlainView(Console(width=200))
    view(SearchStarted(small(resources={"gpus_per_trial": 0.25}), "minimize", 0))
    assert "0.25 GPUs a trial" in capsys.readouterr().out
    assert small(resources={"gpus_per_trial": "auto"}).resources.gpus == 0


@pytest.mark.parametrize("value", ["many", -1, float("inf"), None, [1]])
def test_other_shares_are_refused(value: Any) -> None:
    with pytest.raises(
        ConfigError, match=r"resources\.gpus_per_trial.*a number from 0 on, or auto"
    ):
        parse_config(merged(SMALL, {"resources": {"gpus_per_trial": value}}))
