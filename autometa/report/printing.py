"""The report as PDF and PNG, by a browser of this machine: nothing else draws its figures."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from PIL import Image, ImageChops

from autometa.errors import BrowserError
from autometa.search.folder import write_bytes_atomically

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "microsoft-edge")
OPTIONS = (
    "--headless",
    "--disable-gpu",
    "--hide-scrollbars",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-pdf-header-footer",
    "--virtual-time-budget=20000",  # of the page's own clock, for its scripts
)
WIDTH_PX, MOST_HEIGHT_PX = 1200, 16_000
LONGEST_S = 180


def find_browser(given: str | None = None) -> str:
    """The command of a Chromium: the one given, or the first of the usual names on PATH.

    Raises:
        BrowserError: There is none.
    """
    if given is not None:
        found = shutil.which(given)
        if found is None:
            raise BrowserError(
                f"--browser is {given!r}, but must be a program: the path of a Chromium or Chrome"
            )
        return found
    for name in NAMES:
        if found := shutil.which(name):
            return found
    raise BrowserError(
        f"PDF and PNG need a Chromium, but PATH has none of {', '.join(NAMES)}: install one, "
        "give its path with --browser, or print report.html from any browser"
    )


def check_target(path: Path) -> None:
    """Refuse a file that can't be written, before anything is drawn.

    Raises:
        BrowserError: Its folder isn't there, or it is a folder itself.
    """
    if not path.parent.is_dir():
        raise BrowserError(f"{str(path)!r} can't be written: {str(path.parent)!r} is no folder")
    if path.is_dir():
        raise BrowserError(f"{str(path)!r} is a folder, but must be the name of a file")


def write_pdf(page: Path, path: Path, browser: str) -> None:
    """Print a page.

    Raises:
        BrowserError: The browser fails.
    """
    write_bytes_atomically(path, _made(page, browser, "page.pdf", "--print-to-pdf={}"))


def write_png(page: Path, path: Path, browser: str) -> None:
    """Photograph a whole page, as wide as a desk's screen and at most 16,000 pixels high.

    Raises:
        BrowserError: The browser fails.
    """
    size = f"--window-size={WIDTH_PX},{MOST_HEIGHT_PX}"
    with tempfile.TemporaryDirectory() as folder:
        shot = Path(folder) / "shot.png"
        shot.write_bytes(_made(page, browser, "page.png", size, "--screenshot={}"))
        with Image.open(shot) as image:
            _without_rest(image.convert("RGB")).save(shot, "PNG", optimize=True)
        write_bytes_atomically(path, shot.read_bytes())


def _without_rest(image: Image.Image) -> Image.Image:
    """The picture without the empty ground below the page's end."""
    ground = Image.new("RGB", image.size, image.getpixel((0, image.height - 1)))
    box = ImageChops.difference(image, ground).getbbox()
    return image.crop((0, 0, image.width, min(box[3] + 32, image.height))) if box else image


def _made(page: Path, browser: str, name: str, *options: str) -> bytes:
    """What the browser writes, in a profile of its own that goes with it."""
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        made = Path(folder) / name
        told = [each.format(made) for each in options]
        command = [browser, *OPTIONS, *_sandbox(), f"--user-data-dir={folder}/profile", *told]
        try:
            done = subprocess.run(
                [*command, page.absolute().as_uri()],
                capture_output=True,
                text=True,
                errors="replace",
                timeout=LONGEST_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise BrowserError(f"{browser} took over {LONGEST_S} s to draw {page}") from None
        except OSError as error:
            raise BrowserError(f"{browser} can't be run: {error.strerror}") from None
        if done.returncode or not made.is_file():
            said = (done.stderr.strip() or done.stdout.strip() or "nothing").splitlines()[-1]
            raise BrowserError(
                f"{browser} drew nothing (exit code {done.returncode}); it says: {said}"
            )
        return made.read_bytes()


def _sandbox() -> list[str]:
    """Chromium refuses its sandbox to root; the page is our own, and loads nothing."""
    return ["--no-sandbox"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
