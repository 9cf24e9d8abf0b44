"""Parallel coordinates: each trial once, in its quarter, at the places of its values."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from autometa.report.parallel import MOST_ENTRIES, UNUSED, parallel
from autometa.report.plots import Plot
from autometa.search.study import best_first, rows_of

Make = Callable[..., Any]
QUARTERS = ("best quarter", "second quarter", "third quarter", "last quarter")


def filled(make_study: Make, direction: str = "maximize", count: int = 12) -> Any:
    made = make_study(direction)
    for index in range(count):
        made.trial("complete", [0.3 + 0.01 * (index * 5 % 12)])
    made.trial("pruned", [0.9])
    return made


def lines(trace: Any) -> Iterator[tuple[str, list[float]]]:
    """Name of a trial and its places, row by row."""
    places: list[float] = []
    for x, y, text in zip(trace.x, trace.y, trace.text, strict=True):
        if y is None:
            yield text.split(":")[0], places
            places = []
        else:
            assert y == len(places)
            places.append(x)


def rows_told(plot: Plot) -> list[str]:
    assert plot.figure is not None
    texts = [note.text for note in plot.figure.layout.annotations]
    return [text[3:-4] for text in texts if text.startswith("<b>")]


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_every_complete_trial_is_in_the_quarter_of_its_rank(
    make_study: Make, direction: str
) -> None:
    made = filled(make_study, direction)
    plot = parallel(made.study, rows_of(made.study))
    assert plot.figure is not None
    told = {trace.name: [name for name, _ in lines(trace)] for trace in plot.figure.data}
    ranked = [row.name for row in best_first(rows_of(made.study), direction)]
    assert [told[quarter] for quarter in QUARTERS] == [ranked[i : i + 3] for i in (0, 3, 6, 9)]
    assert plot.figure.data[-1].name == f"best: {ranked[0]}", "which is drawn on top"


def test_a_line_passes_the_values_of_its_trial(make_study: Make) -> None:
    made = filled(make_study)
    rows = {row.name: row for row in rows_of(made.study) if row.end == "complete"}
    plot = parallel(made.study, list(rows.values()))
    assert plot.figure is not None
    *names, score = rows_told(plot)
    assert score == "score: accuracy"
    rates = sorted(row.params["protonet.meta_lr"] for row in rows.values() if row.learner[0] == "p")
    scores = [row.score or 0.0 for row in rows.values()]
    for trace in plot.figure.data:
        for name, places in lines(trace):
            row, at = rows[name], dict(zip([*names, score], places, strict=True))
            assert at["learner"] == ["maml", "protonet"].index(row.learner)
            for own in set(names) - set(row.params):
                assert at[own] == UNUSED
            assert at[score] == pytest.approx(
                (row.score - min(scores)) / (max(scores) - min(scores))
            )
            if row.learner == "protonet" and "protonet.meta_lr" in at:
                share = math.log(row.params["protonet.meta_lr"] / rates[0])
                expected = share / math.log(rates[-1] / rates[0])
                assert at["protonet.meta_lr"] == pytest.approx(expected)


def test_a_rate_vector_gets_few_rows_and_what_never_differs_none(make_study: Make) -> None:
    made = filled(make_study)
    names = rows_told(parallel(made.study, rows_of(made.study)))
    assert sum(name.startswith("maml.inner_lr[") for name in names) == MOST_ENTRIES
    differ = {name: {row.params.get(name) for row in rows_of(made.study)} for name in names[:-1]}
    assert all(len(values - {None}) > 1 for values in differ.values())


def test_two_trials_are_needed(make_study: Make) -> None:
    made = filled(make_study, count=1)
    plot = parallel(made.study, rows_of(made.study))
    assert (plot.figure, plot.alt) == (None, "Two complete trials are needed to compare them.")
