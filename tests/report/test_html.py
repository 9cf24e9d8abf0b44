"""The page of a study: its answer first, nothing from elsewhere, nothing unescaped, and drawn."""

from __future__ import annotations

import html
import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import browser
import pytest

from autometa.report.html import page, write_report

EVIL = "<script>alert('reason')</script> & [bold]more[/bold]"  # the conftest's failed trial
FIGURES = ["history", "curves", "learners", "parallel", "importances", "costs"]
SHORT = {"trials": 3, "iterations": 180}

Make = Callable[..., Any]
PageOf = Callable[[str], str]


class Elements(HTMLParser):
    """Tags with their attributes in the order of the page, and the texts inside styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.styles = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1][0] == "style":
            self.styles += data

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.tags)


def text_of(made: Any) -> str:
    return page(made.folder, made.study, made.config)


def section(text: str, name: str) -> str:
    return text.split(f'<section id="{name}"')[1].split("</section>")[0]


def finished(make_study: Make, direction: str = "maximize", **finish: Any) -> Any:
    made = make_study(direction)
    made.fill()
    made.finish(**finish)
    return made


def unfinished(make_study: Make) -> Any:
    made = make_study()
    made.fill()
    return made


def minimised(make_study: Make) -> Any:
    return finished(make_study, "minimize", baseline=False)


def several(make_study: Make) -> Any:
    made = make_study(objectives=["accuracy", "parameters"])
    made.fill()
    made.finish()
    return made


STUDIES: dict[str, Callable[[Make], Any]] = {
    "finished": finished,
    "unfinished": unfinished,
    "minimised": minimised,
    "several": several,
    "empty": lambda make_study: make_study(),
}


PAGES: dict[str, str] = {}


@pytest.fixture
def page_of(make_study: Make) -> Callable[[str], str]:
    """The page of one of these studies; each is made once."""

    def find(name: str) -> str:
        if name not in PAGES:
            PAGES[name] = text_of(STUDIES[name](make_study))
        return PAGES[name]

    return find


@pytest.fixture(params=STUDIES)
def any_page(request: pytest.FixtureRequest, page_of: PageOf) -> str:
    return page_of(request.param)


def test_the_answer_comes_first(page_of: PageOf) -> None:
    text = page_of("finished")
    body = text[text.index("<body>") :]
    answer = section(text, "answer")
    for told in (
        "The winner is protonet-conv-005",
        "80.3 ± 1.5 %",
        "baseline: published maml on conv",
        "75.4 ± 1.6 %",
        "9 min 11 s",
        "16 min 44 s of computing",
        "4.9 ± 2.2 points better",
        "from best import load",
    ):
        assert told in html.unescape(answer)
    assert (
        body.index('id="answer"') < body.index("Optimisation history") < body.index("plotly.js v")
    )
    assert re.findall(r'<section id="([\w-]+)"', body) == [
        "answer",
        "search",
        "configuration",
        "finalists",
        "costs-table",
        "trials",
        "measured",
    ]


def test_everything_is_escaped(page_of: PageOf) -> None:
    text = page_of("finished")
    assert EVIL not in text
    assert "<script>alert" not in text
    assert EVIL in html.unescape(section(text, "trials"))
    assert Elements(text).count("script") == len(FIGURES) + 3


def test_nothing_comes_from_elsewhere(any_page: str) -> None:
    found = Elements(any_page)
    links = [
        value
        for tag, attributes in found.tags
        for name, value in attributes.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    ]
    assert [link for link in links if not link.startswith(("#", "data:"))] == []
    inline = "".join(attributes.get("style", "") for _, attributes in found.tags)
    assert found.styles
    assert "url(" not in found.styles + inline
    assert "@import" not in found.styles


def test_every_figure_is_json_or_says_why_there_is_none(any_page: str) -> None:
    text = section(any_page, "search")
    data = re.findall(r'<script type="application/json" id="(\w+)-data">(.*)</script>', text)
    assert all(json.loads(figure)["data"] for _, figure in data)
    reasons = text.count('<p class="missing">') - text.count("<noscript>")
    assert len(data) + reasons == len(FIGURES) + ("Pareto front</h3>" in text)


def test_an_unfinished_study_has_its_best_so_far(page_of: PageOf) -> None:
    text = page_of("unfinished")
    answer = section(text, "answer")
    assert "No winner yet" in answer
    assert "Best so far: <strong>protonet-conv-005</strong> with 70.0 ± 1.5 %" in answer
    assert "the search has taken 6 min 2 s" in answer
    assert "The best configuration so far" in text
    assert 'id="finalists"' not in text
    assert '<td class="end unfinished">' in text


def test_a_study_without_trials_says_so(page_of: PageOf) -> None:
    text = page_of("empty")
    assert "No trial has been trained to the full budget yet." in section(text, "answer")
    assert "No trial has been started yet." in section(text, "trials")
    assert 'id="configuration"' not in text
    assert Elements(text).count("figure") == 0


def test_a_study_with_too_few_trials_for_importances(make_study: Make) -> None:
    made = make_study(budget=SHORT)
    made.trial("complete", [0.5, 0.6])
    text = section(text_of(made), "search")
    assert "1 complete trials are too few" in text
    assert text.count("<figure") == len(FIGURES) - 2, "importances, and trials to compare"


def test_a_study_without_a_baseline_says_so(page_of: PageOf) -> None:
    answer = section(page_of("minimised"), "answer")
    assert "This study has no baseline to compare with." in answer
    assert "the same budget" not in answer


def test_errors_are_minimised_and_no_percentages(page_of: PageOf) -> None:
    text = page_of("minimised")
    answer = section(text, "answer")
    assert "The winner is protonet-conv-000" in answer
    assert "meta-test mean squared error" in answer
    assert "0.803 ± 0.015" in answer
    assert "%" not in section(text, "finalists") + section(text, "trials")


def test_the_finalists_say_how_sure_the_choice_is(page_of: PageOf) -> None:
    text = html.unescape(section(page_of("finished"), "finalists"))
    assert "scored on 100 fresh meta-validation tasks" in text
    assert re.search(r"further tasks: 100 of protonet-conv-005, \w+-conv-004\.", text)
    assert "beats it with a probability of 0.94." in text
    assert "optimism of the search +2.1 ± 2.0 points" in text


def test_the_winners_learning_rates_are_a_table(make_study: Make) -> None:
    made = make_study("minimize")
    made.study.enqueue_trial({"learner": "maml"})
    made.trial("complete", [0.2, 0.1])
    text = section(text_of(made), "configuration")
    assert "inner_lr: searched, by layer" in text
    for column in ("conv1", "conv2", "head"):
        assert f'<th scope="col">{column}</th>' in text
    shades = [int(shade) for shade in re.findall(r"--shade:(\d+)", text)]
    assert len(shades) == 6
    assert (min(shades), max(shades)) == (0, 100)


def test_the_report_is_one_file_in_the_study_folder(make_study: Make) -> None:
    made = make_study()
    written = write_report(made.folder, made.study, made.config)
    assert list(made.folder.path.glob("*report*")) == [written]
    assert written.read_text(encoding="utf-8") == text_of(made)


# In a browser.

WIDTHS = {"phone": 390, "desktop": 1280}

# Two frames of the page, each of which tells its width, its figures and how its table sorts.
FRAMES = """<!doctype html>
<body>
<pre id="answer"></pre>
<script>
const answers = {};
addEventListener("message", (event) => {
  Object.assign(answers, event.data);
  document.getElementById("answer").textContent = JSON.stringify(answers);
});
</script>
<iframe name="phone" src="probed.html" style="border: 0; width: 390px; height: 800px"></iframe>
<iframe name="desktop" src="probed.html" style="border: 0; width: 1280px; height: 800px"></iframe>
</body>
"""
PROBE = """<script>
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const figures = [...document.querySelectorAll("[data-figure]")];
  while (!figures.every((div) => div.querySelector(".main-svg .trace"))) await pause(50);
  await pause(500); // the last relayout, and the next frame
  const column = (n) => [...document.querySelectorAll(".sortable tbody tr")]
    .map((row) => row.cells[n].textContent);
  const sorted = [];
  for (const click of [1, 2]) {
    const header = document.querySelectorAll(".sortable th[scope=col]")[5];
    if (!header) break;
    header.querySelector("button").click();
    sorted.push({ by: header.getAttribute("aria-sort"), scores: column(5) });
  }
  parent.postMessage({ [window.name]: {
    inner: innerWidth,
    needed: document.documentElement.scrollWidth,
    figures: figures.map((div) => ({
      id: div.parentElement.id,
      width: div.querySelector(".main-svg").getBoundingClientRect().width,
      room: div.getBoundingClientRect().width,
      shapes: div.querySelectorAll(".trace path, .trace .point").length,
    })),
    sorted,
  } }, "*");
})();
</script>
</body>"""


@pytest.fixture
def browse(tmp_path: Path) -> Callable[[Path], tuple[str, list[str]]]:
    """Open a file: the document after its scripts ran, and console lines."""
    return lambda path: browser.browse(path.as_uri(), tmp_path)


Browse = Callable[[Path], tuple[str, list[str]]]


def probed(text: str, folder: Path) -> Path:
    """The page in two frames, as a file to browse."""
    before, _, after = text.rpartition("</body>")
    (folder / "probed.html").write_text(before + PROBE + after, encoding="utf-8")
    (folder / "frames.html").write_text(FRAMES, encoding="utf-8")
    return folder / "frames.html"


def answers_in(document: str) -> dict[str, Any]:
    told = document.split('<pre id="answer">')[1].split("</pre>")[0]
    answers = json.loads(html.unescape(told))
    assert isinstance(answers, dict)
    return answers


@pytest.mark.parametrize("study", STUDIES)
def test_a_browser_shows_it_on_a_desktop_and_a_phone(
    page_of: PageOf, browse: Browse, tmp_path: Path, study: str
) -> None:
    document, console = browse(probed(page_of(study), tmp_path))
    assert console == []
    answers = answers_in(document)
    assert set(answers) == set(WIDTHS)
    for name, told in answers.items():
        assert told["inner"] == WIDTHS[name]
        assert told["needed"] <= told["inner"], f"{name}: the page scrolls sideways"
        check_figures(told["figures"], drawn(study))
    check_sorting(answers["desktop"]["sorted"], empty=study == "empty")


def drawn(study: str) -> list[str]:
    if study == "empty":
        return []
    return ["front", *FIGURES] if study == "several" else FIGURES


def check_figures(figures: list[dict[str, Any]], wanted: list[str]) -> None:
    assert [figure["id"] for figure in figures] == wanted
    for figure in figures:
        assert figure["shapes"] > 0
        assert 0 < figure["width"] <= figure["room"] + 1


def check_sorting(sorts: list[dict[str, Any]], *, empty: bool) -> None:
    """By number, not by text; trials without a score stay last."""
    assert [each["by"] for each in sorts] == ([] if empty else ["ascending", "descending"])
    for each in sorts:
        *scores, last = each["scores"]
        numbers = [float(text.split()[0]) for text in scores]
        assert last == "–"
        assert numbers == sorted(numbers, reverse=each["by"] == "descending")
        assert len(set(numbers)) > 5


def test_the_browser_would_tell_of_an_error(browse: Browse, tmp_path: Path) -> None:
    (tmp_path / "broken.html").write_text("<body><script>nothing.here()</script></body>")
    _, console = browse(tmp_path / "broken.html")
    assert len(console) == 1
    assert "nothing is not defined" in console[0]
