"""The front of several objectives in the report, in words and in ``trials.csv``."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

from autometa.report.frames import trials_frame
from autometa.report.html import page
from autometa.report.pareto import front_plot, front_table
from autometa.report.text import summary
from autometa.search.front import front
from autometa.search.study import rows_of

Make = Callable[..., Any]
TWO = ["accuracy", "parameters"]


def filled(make_study: Make, objectives: list[str], direction: str = "maximize") -> Any:
    made = make_study(direction, objectives=objectives)
    made.fill()
    return made


def test_the_page_shows_the_front_and_what_was_rescored(make_study: Make) -> None:
    made = filled(make_study, TWO)
    result = made.finish()
    text = page(made.folder, made.study, made.config)
    names = {row.name for row in front(made.study)}
    assert 0 < len(names) < 6
    table = text.split('<section id="front-table"')[1].split("</section>")[0]
    assert set(re.findall(r'<th scope="row">(.*?)</th>', table)) == names
    rescored = re.findall(r"<td>([\d.]+ ± [\d.]+ %)</td>", table)
    assert len(rescored) == len(names & {each["name"] for each in result["finalists"]}) > 0
    figures = re.findall(r'data-figure="([\w-]+)-data"', text)
    assert figures == ["front", "history", "curves", "learners", "parallel", "importances", "costs"]
    assert "of the Pareto front the best score" in html.unescape(text)
    lines = "\n".join(summary(result, made.folder))
    assert f"Front of accuracy and parameters: {len(names)} trial" in lines


def test_every_complete_trial_is_a_point_with_its_name(make_study: Make) -> None:
    made = filled(make_study, TWO)
    plot = front_plot(made.study)
    told = {
        name: (x, y)
        for trace in json.loads(plot.figure.to_json())["data"]
        for name, x, y in zip(trace["text"], trace["x"], trace["y"], strict=True)
    }
    complete = [row for row in rows_of(made.study) if row.end == "complete"]
    assert told == {row.name: (row.score, row.measures["parameters"]) for row in complete}
    on_front = plot.figure.data[-1]
    assert (on_front.name, set(on_front.text)) == ("front", {r.name for r in front(made.study)})


@pytest.mark.parametrize("direction", ["maximize", "minimize"])
def test_three_objectives_are_drawn_and_four_are_a_table(make_study: Make, direction: str) -> None:
    score = "accuracy" if direction == "maximize" else "mse"
    three = filled(make_study, [score, "macs", "adaptation"], direction)
    assert front_plot(three.study).figure.data[0].type == "scatter3d"
    four = filled(make_study, [score, "parameters", "macs", "adaptation"], direction)
    plot = front_plot(four.study)
    assert (plot.figure, plot.alt) == (None, "See the table: 4 objectives are too many.")
    table = front_table(four.study, None)
    assert table is not None
    assert table["columns"] == [score, "parameters", "macs", "adaptation, ms a task"]
    assert all(len(row["cells"]) == 4 and row["rescored"] == "–" for row in table["rows"])


def test_a_search_that_has_just_begun_says_so(make_study: Make) -> None:
    made = make_study(objectives=TWO)
    assert front_plot(made.study).alt == "No trial is complete yet."
    table = page(made.folder, made.study, made.config).split('<section id="front-table"')[1]
    assert "No trial is complete yet." in table.split("</section>")[0]


def test_one_objective_has_no_front(make_study: Make) -> None:
    made = make_study()
    made.fill()
    assert front_table(made.study, None) is None
    assert "front-table" not in page(made.folder, made.study, made.config)


def test_what_was_measured_is_in_the_frame(make_study: Make) -> None:
    several = trials_frame(rows_of(filled(make_study, [*TWO, "adaptation"]).study))
    scored = several[several["iteration"] > 0]
    assert list(scored["adaptation"]) == [2.0 + n for n in scored["number"]]
    assert several[several["iteration"] == 0]["adaptation"].isna().all()
    assert "adaptation" not in trials_frame(rows_of(filled(make_study, []).study)).columns
