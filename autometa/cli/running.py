"""Running a study in sight of the user, or of a program."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.cli.common import console
from autometa.errors import ConfigError

Quiet = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors.")]
AsJson = Annotated[
    bool, typer.Option("--json", help="Print a JSON object a line for every event, for programs.")
]


@dataclass(frozen=True)
class Output:
    """How a search is shown; where neither is asked for, as suits the terminal."""

    quiet: bool = False
    as_json: bool = False

    def __post_init__(self) -> None:
        if self.quiet and self.as_json:
            raise ConfigError("--quiet and --json were both given: choose one")


def watched(run: Callable[[Any], Any], output: Output) -> None:
    """Run a study under a view, and say at the end what came out and what comes next."""
    from autometa.report.json_lines import JsonView
    from autometa.report.views import make_view
    from autometa.search.events import Interrupted

    # A scheduler's SIGTERM (a batch system's, say) stops a study as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    view = make_view(console(), quiet=output.quiet, as_json=output.as_json)
    try:
        with view:
            study = run(view)
    except (Interrupted, KeyboardInterrupt) as stop:
        if isinstance(view, JsonView):
            view.ended(Path(str(stop)) if str(stop) else None, None)
        begun = f"; go on with: {program()} resume {stop}" if str(stop) else " before it began"
        typer.echo(f"stopped{begun}", err=True)
        sys.exit(130)
    if isinstance(view, JsonView):
        view.ended(study.folder.path, study.result)
    elif not output.quiet:
        show_result(study)


def show_result(study: Any) -> None:
    """What came out of a study, and the commands that one would type next."""
    from autometa.report.text import next_steps, summary

    screen = console()
    for line in [*summary(study.result, study.folder), *next_steps(study.folder, program())]:
        screen.print(line, soft_wrap=True, markup=False)


def program() -> str:
    """How this command is called here: by its name where the shell finds it, else by its path."""
    given = sys.argv[0]
    return "autometa" if shutil.which("autometa") or not os.access(given, os.X_OK) else given
