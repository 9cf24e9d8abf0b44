"""The closer look on the page: numbers as in ``insight.json``, pictures with words, and drawn."""

from __future__ import annotations

import base64
import html
import io
import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import browser
import numpy as np
import pytest
from PIL import Image

from autometa.errors import StudyError
from autometa.report.closer import BINS, closer, histogram, steps_plot, tasks_plot
from autometa.report.html import page
from autometa.report.pictures import classes_text, laid_out, pictures
from autometa.report.rates import rates_plot, shades
from autometa.report.reliability import reliability, reliability_plot
from autometa.search.study import MAXIMIZE, MINIMIZE

Make = Callable[..., Any]
EVIL = "OSError: <script>alert('reason')</script>"
RATES = {
    "mode": "learned",
    "groups": "layer",
    "columns": ["conv1", "conv2", "head"],
    "rows": [[0.01, 0.1, 1.0], [0.001, 0.02, 0.03]],
    "mean": False,
}
STEPS = {
    "own": 1,
    "tasks": 20,
    "points": [
        {"steps": 0, "mean": 0.2, "ci95": 0.01},
        {"steps": 1, "mean": 0.7, "ci95": 0.02},
        {"steps": 2, "mean": None, "ci95": None},
    ],
}
CLASSES = [
    {"queries": 2, "right": 2, "taken": []},
    {"queries": 2, "right": 0, "taken": [[0, 1], [2, 1]]},
    {"queries": 2, "right": 1, "taken": [[1, 1]]},
]


def png(width: int, height: int) -> str:
    Image.new("L", (width, height), 90).save(out := io.BytesIO(), "PNG")
    return base64.b64encode(out.getvalue()).decode()


def sheet() -> dict[str, Any]:
    """Three classes of one support image and two queries, tiles of 8 × 6."""
    answers = [[0, 0], [0, 2], [1, 2]]
    return {"png": png(24, 18), "height": 6, "width": 8, "shots": 1, "rows": answers}


def classified() -> dict[str, Any]:
    known = random.Random(0)
    sure = [[0.34 + 0.66 * known.random() for _ in range(6)] for _ in range(20)]
    right = [[int(known.random() < p) for p in task] for task in sure]
    shown = {"classes": CLASSES, "sheet": sheet()}
    return {
        "problem": "classification",
        "scores": [sum(task) / 6 for task in right],
        "calibration": {"ece": 0.061, "confidence": sure, "correct": right},
        "steps": STEPS,
        "rates": RATES,
        "episodes": [
            {"kind": "hardest", "task": 3, "score": 0.5, "loss": 1.0, **shown},
            {"kind": "hardest", "task": 5, "score": 0.5, "loss": 0.9, **shown},
            {"kind": "easiest", "task": 7, "score": 0.95, "loss": 0.1, **shown},
        ],
    }


def regressed() -> dict[str, Any]:
    curve = {"support": [[1.0, 2.0], [-1.0, 0.5]]}
    curve["queries"] = [[0.5, 1.0, 1.25], [-2.0, 1.0, -3.0], [2.0, 0.0, 0.5]]
    return {
        "problem": "regression",
        "scores": [0.1, 0.4, 2.5, 0.2],
        "calibration": None,
        "steps": STEPS,
        "rates": {**RATES, "rows": [[-0.01, 0.1, 1.0]], "mean": True},
        "episodes": [{"kind": "hardest", "task": 2, "score": 2.5, "loss": 2.5, **curve}],
    }


def looked_at(make_study: Make, insight: dict[str, Any], direction: str = MAXIMIZE) -> Any:
    """A finished study with such an ``insight.json`` of its winner."""
    made = make_study(direction)
    made.fill()
    winner = made.finish()["winner"]
    told = {"name": winner["name"], "seed": winner["exported_seed"], **insight}
    made.folder.insight.write_text(json.dumps(told))
    return made


def text_of(made: Any) -> str:
    return page(made.folder, made.study, made.config)


def section(text: str) -> str:
    return text.split('<section id="closer"')[1].split("</section>")[0]


def test_bins_of_confidence_add_up_to_the_calibration_error() -> None:
    known = random.Random(1)
    sure = [known.random() for _ in range(500)] + [1 / 15, 1.0]
    right = [float(known.random() < p**2) for p in sure]
    bins = reliability(sure, right)
    error = 0.0
    for each in bins:
        inside = [i for i, p in enumerate(sure) if each.low < p <= each.high]
        assert each.count == len(inside)
        assert each.confidence == pytest.approx(np.mean([sure[i] for i in inside]))
        assert each.accuracy == pytest.approx(np.mean([right[i] for i in inside]))
        error += each.count / len(sure) * abs(each.accuracy - each.confidence)
    assert sum(each.count for each in bins) == len(sure)
    gaps = [
        abs(sum(right[i] - sure[i] for i, p in enumerate(sure) if m / 15 < p <= (m + 1) / 15))
        for m in range(15)
    ]
    assert error == pytest.approx(sum(gaps) / len(sure))


def test_calibration_says_which_way_it_errs() -> None:
    told = {"ece": 0.25, "confidence": [[0.9, 0.8], [0.7, 0.6]], "correct": [[1, 0], [1, 0]]}
    plot = reliability_plot(told)
    assert plot is not None
    assert plot.alt == (
        "Expected calibration error 25.0 % over 4 queries in 15 bins of confidence; "
        "on the whole it is too sure: 75.0 % sure, 50.0 % right."
    )
    diagonal, shown = plot.figure.data
    assert list(diagonal.x) == list(diagonal.y) == [0, 1]
    assert list(shown.x) == [0.6, 0.7, 0.8, 0.9]
    assert list(shown.y) == [0.0, 1.0, 0.0, 1.0]


def test_a_score_on_an_edge_is_in_the_upper_bin_however_it_was_rounded() -> None:
    scores = [0.6, float(np.float32(0.6)), 0.6 - 3e-8, 0.65, 1.0, 0.0]
    counts, edges = histogram(scores, 1.0)
    assert len(edges) == BINS + 1
    assert counts.sum() == len(scores)
    assert (counts[12], counts[13], counts[19], counts[0]) == (3, 1, 1, 1)


@pytest.mark.parametrize("direction", [MAXIMIZE, MINIMIZE])
def test_every_task_is_in_the_histogram(direction: str) -> None:
    scores = [0.12, 0.41, 0.42, 0.93] if direction == MAXIMIZE else [0.5, 2.1, 12.0, 3.1]
    (bars,) = tasks_plot(scores, direction).figure.data
    assert sum(bars.y) == len(scores)
    inside = [
        sum(abs(score - x) <= width / 2 + 1e-9 for score in scores)
        for x, width in zip(bars.x, bars.width, strict=True)
    ]
    assert list(bars.y) == inside
    alt = tasks_plot([0.1, 0.4, 0.4, 0.9], MAXIMIZE).alt
    assert "from 10.0 % to 90.0 %, half of them between 32.5 % and 52.5 %" in alt


def test_the_course_leaves_out_what_is_no_number_and_says_so() -> None:
    plot = steps_plot(STEPS, MAXIMIZE)
    assert plot is not None
    (line,) = plot.figure.data
    assert (list(line.x), list(line.y)) == ([0, 1], [0.2, 0.7])
    assert list(line.error_y.array) == [0.01, 0.02]
    assert plot.figure.layout.shapes[0].x0 == 1
    assert plot.alt == (
        "On 20 tasks, before any step: 20.0 ± 1.0 %; after 1, which it was set to: 70.0 ± 2.0 %; "
        "after 2: not finite."
    )
    assert steps_plot(None, MAXIMIZE) is None


def test_rates_are_shaded_by_their_logarithm() -> None:
    plot = rates_plot(RATES)
    assert plot is not None
    (heat,) = plot.figure.data
    assert np.array(heat.z) == pytest.approx(np.log10(np.array(RATES["rows"])))
    assert list(heat.x) == RATES["columns"]
    assert list(heat.y) == ["step 1", "step 2"]
    assert [list(row) for row in heat.text][1] == ["0.001", "0.02", "0.03"]
    assert plot.alt == (
        "Learning rates, 2 × 3 of them: lowest 0.001 (step 2, conv1), highest 1 (step 1, head)."
    )


def test_rates_below_zero_have_a_colour_of_their_own() -> None:
    found = shades([[-0.2, 0.1]])
    assert found["z"] == [[-0.2, 0.1]]
    assert (found["zmin"], found["zmax"]) == (-0.2, 0.2)


def test_the_worst_classes_are_told_first_and_many_are_summed_up() -> None:
    assert classes_text(CLASSES) == (
        "Class 2: 0 of 2 right, others taken for 1 (1), 3 (1). "
        "Class 3: 1 of 2 right, others taken for 2 (1). Class 1: 2 of 2 right."
    )
    assert classes_text(CLASSES * 3).endswith("Of the other 4 classes: 7 of 8 right.")


def test_images_have_places_of_their_own_and_labels_where_wrong() -> None:
    drawing = laid_out(sheet())
    assert drawing.pixels == (24, 18)
    width, height = drawing.shown
    assert width / height == pytest.approx(8 / 6, rel=0.02)
    taken = {(tile.row, tile.column): tile.taken for tile in drawing.tiles if tile.query}
    assert taken == {
        (0, 1): None,
        (0, 2): None,
        (1, 1): 1,
        (1, 2): 3,
        (2, 1): 2,
        (2, 2): None,
    }
    assert len(drawing.tiles) == 9
    for one in drawing.tiles:
        assert one.left + width <= drawing.width
        assert one.top + height <= drawing.height
        for other in drawing.tiles:
            apart = abs(one.left - other.left) >= width or abs(one.top - other.top) >= height
            assert one is other or apart


def test_a_curves_worst_query_is_told() -> None:
    (picture,) = pictures(regressed()["episodes"], 4, MINIMIZE)
    assert picture.alt == (
        "The hardest of 4 tasks: mean squared error 2.50. 2 support points and 3 queries; "
        "the worst is at x = -2, where -3 was predicted for 1."
    )
    assert picture.plot is not None
    predicted, truth, support = picture.plot.figure.data
    assert list(predicted.x) == [-2.0, 0.5, 2.0]
    assert list(predicted.y) == [-3.0, 1.25, 0.5]
    assert list(truth.y) == [1.0, 1.0, 0.0]
    assert list(support.x) == [-1.0, 1.0]


def test_the_page_has_figures_and_pictures_with_words(make_study: Make) -> None:
    made = looked_at(make_study, classified())
    told = section(text_of(made))
    figures = re.findall(r'data-figure="([\w-]+)-data"', told)
    assert figures == ["closer-tasks", "closer-calibration", "closer-steps", "closer-rates"]
    labels = [html.unescape(each) for each in re.findall(r'aria-label="(.*?)"', told)]
    titles = (
        "The hardest of 20 tasks: accuracy 50.0 %",
        "The second hardest of 20 tasks: accuracy 50.0 %",
        "The easiest of 20 tasks: accuracy 95.0 %",
    )
    assert labels[-3:] == [f"{title}. {classes_text(CLASSES)}" for title in titles]
    assert f"data:image/png;base64,{sheet()['png']}" in told
    assert re.findall(r"→ (\d)", told) == ["1", "3", "2"] * 3
    links = re.findall(r'(?:href|src)="(.*?)"', told)
    assert all(link.startswith(("#", "data:image/png;base64,")) for link in links)
    identities = re.findall(r' id="(.*?)"', text_of(made))
    assert len(identities) == len(set(identities))


def test_a_study_without_a_look_has_no_such_section(make_study: Make) -> None:
    made = looked_at(make_study, classified())
    known = json.loads(made.folder.insight.read_text())
    made.folder.insight.write_text(json.dumps(known | {"name": "another-winner"}))
    assert 'id="closer"' not in text_of(made)
    made.folder.insight.unlink()
    assert closer(made.folder, made.folder.read_result()) is None
    assert closer(made.folder, None) is None


def test_a_look_that_failed_says_why(make_study: Make) -> None:
    made = looked_at(make_study, {"failed": EVIL})
    told = section(text_of(made))
    assert EVIL not in told
    assert EVIL in html.unescape(told)
    assert f"run <code>autometa resume {made.folder.path}</code>" in told


def test_a_damaged_look_is_refused_by_name(make_study: Make) -> None:
    made = looked_at(make_study, classified())
    made.folder.insight.write_text('{"name": ')
    with pytest.raises(StudyError, match=r"insight\.json is damaged .*: remove it and resume"):
        closer(made.folder, made.folder.read_result())


# In a browser.

FRAME = """<!doctype html><body><pre id="answer"></pre>
<script>addEventListener("message", (event) => {
  document.getElementById("answer").textContent = JSON.stringify(event.data);
});</script>
<iframe src="page.html" style="border: 0; width: 390px; height: 800px"></iframe></body>"""
PROBE = """<script>
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const figures = [...document.querySelectorAll("#closer [data-figure]")];
  const drawn = ".main-svg .trace, .main-svg .hm image";
  while (!figures.every((div) => div.querySelector(drawn))) await pause(50);
  await pause(300);
  parent.postMessage({
    needed: document.documentElement.scrollWidth,
    figures: figures.map((div) => div.parentElement.id),
    images: [...document.querySelectorAll(".episode use")]
      .map((use) => use.getBoundingClientRect().width > 0),
  }, "*");
})();
</script></body>"""


@pytest.mark.parametrize("direction", [MAXIMIZE, MINIMIZE])
def test_a_browser_draws_it_on_a_phone(make_study: Make, tmp_path: Path, direction: str) -> None:
    insight = classified() if direction == MAXIMIZE else regressed()
    before, _, after = text_of(looked_at(make_study, insight, direction)).rpartition("</body>")
    (tmp_path / "page.html").write_text(before + PROBE + after, encoding="utf-8")
    (tmp_path / "frame.html").write_text(FRAME, encoding="utf-8")
    document, console = browser.browse((tmp_path / "frame.html").as_uri(), tmp_path)
    assert console == []
    told = json.loads(html.unescape(document.split('id="answer">')[1].split("</pre>")[0]))
    assert told["needed"] <= 390, "the page scrolls sideways"
    more = ["closer-calibration"] if direction == MAXIMIZE else []
    figures = ["closer-tasks", *more, "closer-steps", "closer-rates"]
    assert told["figures"] == figures + (["closer-hardest-1"] if direction == MINIMIZE else [])
    assert told["images"] == ([True] * 27 if direction == MAXIMIZE else [])
