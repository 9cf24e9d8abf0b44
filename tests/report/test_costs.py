"""Costs add up to what the trials and finalists took, learner by learner."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from autometa.config import ResourcesConfig
from autometa.report.costs import costs_of, costs_plot, costs_table, hours_text
from autometa.report.html import page
from autometa.search.study import rows_of

Make = Callable[..., Any]
GPUS = ResourcesConfig(cpus_per_trial=2.0, gpus_per_trial=0.25)


def finished(make_study: Make, **over: Any) -> tuple[Any, dict[str, Any]]:
    made = make_study(**over)
    made.fill()
    return made, made.finish()


def test_every_second_is_some_learners(make_study: Make) -> None:
    made, result = finished(make_study)
    rows = rows_of(made.study)
    costs = costs_of(rows, result, GPUS)
    trials = sum(row.seconds for row in rows)
    retrained = sum(each["seconds"] for each in [*result["finalists"], result["baseline"]])
    assert sum(cost.total_s for cost in costs) == pytest.approx(trials + retrained)
    for cost in costs:
        own = [row for row in rows if row.learner == cost.learner]
        assert cost.trials == sum(row.seconds > 0 for row in own)
        for end, kind in (("complete", "complete"), ("pruned", "pruned"), ("diverged", "other")):
            least = sum(row.seconds for row in own if row.end == end)
            assert cost.seconds.get(kind, 0.0) >= least
        assert cost.cpu_hours == pytest.approx(cost.total_s * 2 / 3600)
        assert cost.gpu_hours == pytest.approx(cost.total_s / 4 / 3600)
    assert [cost.total_s for cost in costs] == sorted((c.total_s for c in costs), reverse=True)


def test_bars_are_the_same_numbers(make_study: Make) -> None:
    made, result = finished(make_study)
    costs = costs_of(rows_of(made.study), result, GPUS)
    figure = costs_plot(costs).figure
    assert figure is not None
    assert figure.layout.xaxis.title.text == "minutes of workers"
    for place, cost in enumerate(costs):
        assert 60 * sum(bar.x[place] for bar in figure.data) == pytest.approx(cost.total_s)
        assert all(bar.y[place] == cost.learner for bar in figure.data)


@pytest.mark.parametrize("gpus", [0.0, 0.25])
def test_gpu_hours_stand_where_there_are_gpus(make_study: Make, gpus: float) -> None:
    made, result = finished(make_study, resources={"gpus_per_trial": gpus})
    costs = costs_of(rows_of(made.study), result, made.config.resources)
    table = costs_table(costs)
    assert table is not None
    assert ("GPU-hours" in table["columns"]) == (gpus > 0)
    assert all(len(row["cells"]) == len(table["columns"]) for row in table["rows"])
    assert (table["rows"][-1]["name"], table["rows"][-1]["cells"][2]) == ("all", "100 %")
    answer = page(made.folder, made.study, made.config).split("</section>")[0]
    assert "CPU-hours" in answer
    assert ("GPU-hours" in answer) == (gpus > 0)


def test_nothing_has_been_spent_yet(make_study: Make) -> None:
    costs = costs_of(rows_of(make_study().study), None, GPUS)
    assert costs == []
    assert costs_table(costs) is None
    assert costs_plot(costs).alt == "No trial has taken any time yet."


def test_hours_have_two_digits_or_more() -> None:
    assert [hours_text(h) for h in (0.0283, 3.14, 47.9, 1204.2)] == ["0.028", "3.1", "48", "1,204"]
