"""The report as PDF and PNG by a real browser, and what is said where there is none."""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from browser import BROWSERS
from PIL import Image

from autometa import api
from autometa.errors import BrowserError
from autometa.report.printing import NAMES, WIDTH_PX, find_browser

Make = Callable[..., Any]
Command = Callable[..., Any]

needs_browser = pytest.mark.skipif(
    not any(map(shutil.which, BROWSERS)), reason="no browser on PATH"
)


def finished(make_study: Make) -> Any:
    made = make_study()
    made.fill()
    made.finish()
    return made


@needs_browser
def test_the_page_becomes_a_pdf_and_a_png(
    make_study: Make, autometa: Command, tmp_path: Path
) -> None:
    made = finished(make_study)
    pdf, png = tmp_path / "report.pdf", tmp_path / "report.png"
    ended = autometa("report", made.folder.path, "--pdf", pdf, "--png", png)
    assert ended.code == 0, ended.err
    assert ended.out.splitlines()[1:] == [f"picture: {pdf}", f"picture: {png}"]
    content = pdf.read_bytes()
    assert content.startswith(b"%PDF-")
    assert len(re.findall(rb"/Type\s*/Page\b", content)) >= 3, "pages"
    assert curves(content) > 500, "the figures are drawn in lines, not left out"
    check_png(png)


def curves(pdf: bytes) -> int:
    """Straight lines and curves in the content streams of a PDF."""
    streams = re.findall(rb"stream\r?\n(.*?)\r?\nendstream", pdf, flags=re.S)
    count = 0
    for stream in streams:
        try:
            text = zlib.decompress(stream)
        except zlib.error:  # a font or a picture in another coding
            continue
        count += len(re.findall(rb"[\d.]+ [\d.]+ [lc]\s", text))
    return count


def check_png(path: Path) -> None:
    with Image.open(path) as image:
        assert image.width == WIDTH_PX
        assert 2500 < image.height < 16_000, "all of the page, and none of the ground below it"
        colours = {c for _, c in image.convert("RGB").getcolors(1 << 24) or []}
        last = image.convert("RGB").crop((0, image.height - 40, image.width, image.height))
        assert len(last.getcolors(1 << 20) or []) > 1, "the last line of the page"
    for colour in ("#0072B2", "#D55E00"):
        assert tuple(bytes.fromhex(colour[1:])) in colours, "the figures are drawn"


def test_without_a_browser_it_says_what_to_do(
    make_study: Make, autometa: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_study()
    monkeypatch.setenv("PATH", str(tmp_path))
    ended = autometa("report", made.folder.path, "--pdf", tmp_path / "report.pdf")
    assert (ended.code, ended.out) == (2, "")
    assert "need a Chromium, but PATH has none of chromium" in ended.err
    assert "give its path with --browser" in ended.err
    assert not made.folder.report.exists(), "nothing is written by a command that fails"
    assert autometa("report", made.folder.path).code == 0, "the page itself needs none"


def test_a_browser_that_is_none_is_named(
    make_study: Make, autometa: Command, tmp_path: Path
) -> None:
    made = make_study()
    given = ("--png", tmp_path / "report.png", "--browser", "no-such-browser")
    ended = autometa("report", made.folder.path, *given)
    assert ended.code == 2
    assert "--browser is 'no-such-browser', but must be a program" in ended.err


def test_a_program_that_draws_nothing_is_told_of(make_study: Make, tmp_path: Path) -> None:
    made = make_study()
    program = tmp_path / "broken"
    program.write_text("#!/bin/sh\necho cannot open display >&2\nexit 3\n")
    program.chmod(0o755)
    target = tmp_path / "report.pdf"
    with pytest.raises(BrowserError, match=r"exit code 3\); it says: cannot open display"):
        api.report(made.folder.path, pdf=target, browser=str(program))
    assert not target.exists()
    program.write_text("#!/no/such/interpreter\n")
    with pytest.raises(BrowserError, match="can't be run"):
        api.report(made.folder.path, pdf=target, browser=str(program))


def test_a_target_that_cant_be_written_is_refused_first(make_study: Make, tmp_path: Path) -> None:
    made = make_study()
    with pytest.raises(BrowserError, match="is no folder"):
        api.report(made.folder.path, pdf=tmp_path / "none" / "report.pdf")
    with pytest.raises(BrowserError, match="must be the name of a file"):
        api.report(made.folder.path, png=tmp_path)
    assert not made.folder.report.exists()


def test_a_browser_is_found_by_its_usual_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in reversed(NAMES):
        (tmp_path / name).write_text("#!/bin/sh\n")
        (tmp_path / name).chmod(0o755)
        assert find_browser() == str(tmp_path / name), "the first of the names counts"
