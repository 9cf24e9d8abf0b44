"""What surrounds a search: Ray's token, proxies, the terminal."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import getproxies, proxy_bypass

from autometa.doctor.finding import Finding, ok, problem, warning

if TYPE_CHECKING:
    from rich.console import Console

LOCAL = "127.0.0.1"
NARROW = 60
DRAWN = "▁█━±"


def ray_token() -> Finding:
    """Ray writes its token into the home folder, unless it is given or switched off."""
    if os.environ.get("RAY_AUTH_MODE", "token") == "disabled":
        return warning(
            "Ray's token",
            "RAY_AUTH_MODE is 'disabled': whoever reaches Ray's ports can run programs here",
            "unset RAY_AUTH_MODE",
        )
    if "RAY_AUTH_TOKEN" in os.environ:
        return ok("Ray's token", "from RAY_AUTH_TOKEN")
    path = Path(os.environ.get("RAY_AUTH_TOKEN_PATH") or Path.home() / ".ray" / "auth_token")
    if path.is_file() and os.access(path, os.R_OK):
        return ok("Ray's token", f"in {path}")
    folder = next((each for each in path.parents if each.exists()), path)
    if path.exists() or not os.access(folder, os.W_OK):
        return problem(
            "Ray's token",
            f"{path} can't be {'read' if path.exists() else 'written'}",
            "set HOME to a folder of yours, or RAY_AUTH_TOKEN to a secret of 32 or more letters",
        )
    return ok("Ray's token", f"will be made in {path}")


def proxy() -> Finding:
    """A proxy must not be asked for this machine's own addresses."""
    proxies = {kind: url for kind, url in getproxies().items() if kind in ("http", "https")}
    if not proxies:
        return ok("proxy", "none")
    kinds = " and ".join(f"{kind}_proxy" for kind in proxies)
    if proxy_bypass(LOCAL):
        return ok("proxy", f"{kinds}, not for {LOCAL}")
    return warning(
        "proxy",
        f"{kinds} would be asked for {LOCAL} too, where Ray's dashboard is",
        f"export no_proxy={LOCAL},localhost",
    )


def terminal(console: Console) -> Finding:
    """Whether there is a live view, and whether it can be drawn."""
    try:
        DRAWN.encode(console.encoding)
    except UnicodeEncodeError:
        return problem(
            "terminal",
            f"its encoding is {console.encoding}, which lacks what the live view is drawn with",
            "export LANG=C.UTF-8 (or PYTHONIOENCODING=utf-8)",
        )
    if not console.is_terminal or console.is_dumb_terminal:
        return ok("terminal", "none: a search prints plain lines")
    colours = "without colours" if console.no_color else f"{console.color_system} colours"
    found = f"{console.width} columns, {colours}"
    if console.width < NARROW:
        return warning("terminal", found, f"widen it to {NARROW} columns or more")
    return ok("terminal", found)
