"""The page for those who see little, or use no mouse: contrasts, keyboard, figures in words."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import browser
import pytest

from autometa.report.html import page

Make = Callable[..., Any]
LIGHT, DARK = "light", "dark"

PROBE = """<pre id="told"></pre>
<script>
(async () => {
  const pause = (ms) => new Promise((done) => setTimeout(done, ms));
  const figures = [...document.querySelectorAll("[data-figure]")];
  while (!figures.every((div) => div.querySelector(".main-svg .trace"))) await pause(50);
  await pause(500);
  document.querySelectorAll("details").forEach((each) => { each.open = true; });

  const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
  const over = (top, under) => { // the browser itself reads and mixes the colours
    for (const colour of [under, top]) { canvas.fillStyle = colour; canvas.fillRect(0, 0, 1, 1); }
    return `rgb(${[...canvas.getImageData(0, 0, 1, 1).data].slice(0, 3).join()})`;
  };
  const ground = (element) => {
    if (!element) return "rgb(255,255,255)";
    return over(getComputedStyle(element).backgroundColor, ground(element.parentElement));
  };
  const luminance = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).map((each) => each / 255)
      .map((p) => p <= 0.04045 ? p / 12.92 : ((p + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const contrast = (a, b) => {
    const [low, high] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (high + 0.05) / (low + 0.05);
  };
  const texts = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {
    const element = walker.currentNode.parentElement;
    if (!walker.currentNode.textContent.trim()) continue;
    if (element.closest("script, style, noscript, #told, .hoverlayer")) continue;
    if (!element.checkVisibility({ opacityProperty: true, visibilityProperty: true })) continue;
    const style = getComputedStyle(element);
    const svg = element.closest("svg");
    const box = element.closest("svg.network") ? document.querySelector("svg.network rect") : null;
    const under = box ? getComputedStyle(box).fill : ground(svg ? svg.parentElement : element);
    const ink = over(svg ? style.fill : style.color, under);
    const size = parseFloat(style.fontSize);
    const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
    const mark = element.getAttribute("aria-hidden") === "true"; // a swatch is no text
    texts.push({
      text: walker.currentNode.textContent.trim().slice(0, 40),
      ratio: contrast(ink, under),
      needed: large || mark ? 3 : 4.5,
    });
  }

  const controls = [...document.querySelectorAll("a[href], button, summary, [tabindex]")]
    .map((element) => {
      element.focus();
      const style = getComputedStyle(element);
      return {
        name: element.getAttribute("aria-label") ?? element.textContent.trim(),
        tab: element.tabIndex,
        focused: document.activeElement === element,
        outline: element.matches(":focus-visible") ? parseFloat(style.outlineWidth) : 0,
        drawn: style.outlineStyle !== "none",
        contrast: contrast(over(style.outlineColor, "white"), ground(element.parentElement)),
      };
    });
  const mouseOnly = [...document.querySelectorAll("body *")].filter((element) =>
    getComputedStyle(element).cursor === "pointer" && !element.closest("svg")
    && !element.closest("a[href], button, summary")).length;
  const scrolls = [...document.querySelectorAll("body *")].filter((element) =>
    /auto|scroll/.test(getComputedStyle(element).overflowX + getComputedStyle(element).overflowY)
    && (element.scrollWidth > element.clientWidth || element.scrollHeight > element.clientHeight)
    && !element.closest("svg") && element.tabIndex < 0).map((each) => each.className);

  const button = document.querySelector(".legend button");
  const div = document.querySelector(".legend + [data-figure]");
  const states = [];
  for (let click = 0; click < 3; click += 1) {
    states.push([button.getAttribute("aria-pressed"), div.data[0].visible ?? true]);
    button.click();
    await pause(50);
  }
  document.getElementById("told").textContent = JSON.stringify({
    texts, controls, mouseOnly, scrolls, states,
    figures: figures.map((each) => [each.getAttribute("role"), each.getAttribute("aria-label")]),
    headings: [...document.querySelectorAll("h1, h2, h3")].map((each) => Number(each.tagName[1])),
    ids: [...document.querySelectorAll("[id]")].map((each) => each.id),
    regions: [...document.querySelectorAll("section, [role=region]")].map((each) =>
      each.getAttribute("aria-label")
      ?? document.getElementById(each.getAttribute("aria-labelledby")).textContent),
  });
})();
</script>
</body>"""

TOLD: dict[str, dict[str, Any]] = {}


@pytest.fixture(params=[LIGHT, DARK])
def told(request: pytest.FixtureRequest, make_study: Make, tmp_path: Path) -> dict[str, Any]:
    """What a browser says of the page of a finished study, in each of its two colourings."""
    colouring = str(request.param)
    if colouring not in TOLD:
        made = make_study()
        made.fill()
        made.finish()
        text = page(made.folder, made.study, made.config)
        if colouring == DARK:
            text = text.replace("@media (prefers-color-scheme: dark)", "@media all", 1)
        before, _, after = text.rpartition("</body>")
        path = tmp_path / "page.html"
        path.write_text(before + PROBE + after, encoding="utf-8")
        document, console = browser.browse(path.as_uri(), tmp_path)
        assert console == []
        said = document.split('<pre id="told">')[1].split("</pre>")[0]
        TOLD[colouring] = json.loads(html.unescape(said))
    return TOLD[colouring]


def test_every_text_has_the_contrast_of_wcag_aa(told: dict[str, Any]) -> None:
    texts = told["texts"]
    assert len(texts) > 200
    assert {"conv 3×3, 32", "best so far", "meta-iterations"} <= {each["text"] for each in texts}
    assert [each for each in texts if each["ratio"] < each["needed"]] == []


def test_every_control_is_reached_by_tab_and_shows_it(told: dict[str, Any]) -> None:
    controls = told["controls"]
    names = {each["name"] for each in controls}
    assert {"Answer", "score", "The layers as a table", "Trials", "● complete"} <= names
    for each in controls:
        assert each["tab"] == 0, "in the order of the page"
        assert each["focused"], each
        assert each["outline"] >= 2, each
        assert each["drawn"]
        assert each["contrast"] >= 3
    assert told["mouseOnly"] == 0
    assert told["scrolls"] == [], "what scrolls can be scrolled by keys"


def test_a_legends_button_hides_and_shows_its_trace(told: dict[str, Any]) -> None:
    assert told["states"] == [["true", True], ["false", False], ["true", True]]


def test_figures_are_told_in_words_and_headings_are_in_order(told: dict[str, Any]) -> None:
    assert len(told["figures"]) == 6
    assert all(role == "img" and len(label) > 20 for role, label in told["figures"])
    levels = told["headings"]
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in pairwise(levels))
    for names in (told["ids"], told["regions"]):
        assert len(set(names)) == len(names) > 8
        assert all(names)
