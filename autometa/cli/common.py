"""What several commands take, and do alike."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.cli import complete

Space = Annotated[
    str,
    typer.Argument(help="A YAML file, or the name of one of ours.", autocompletion=complete.spaces),
]
Assignments = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="A.B=C",
        help="Set any field; may be given many times.",
        autocompletion=complete.fields,
    ),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything.")]
Folder = Annotated[
    Path,
    typer.Argument(help="A study folder.", metavar="FOLDER", autocompletion=complete.studies),
]
Storage = Annotated[
    str | None,
    typer.Option(envvar="AUTOMETA_STORAGE", help="Optuna storage URL, e.g. of a PostgreSQL."),
]
Dashboard = Annotated[
    bool | None,
    typer.Option(
        "--dashboard/--no-dashboard",
        help="Ray's dashboard and metrics; default: where the output is a terminal.",
        show_default=False,
    ),
]


def console(*, stderr: bool = False) -> Any:
    """A Rich console, which sees for itself whether the output is a terminal."""
    from rich.console import Console

    return Console(highlight=False, stderr=stderr)


def steps() -> Any:
    """Progress bars on the terminal behind stderr, if there is one: an observer and a context."""
    from autometa.report.steps import StepsView

    return StepsView(console(stderr=True))


def configuration(space: str, assignments: list[str] | None, flags: dict[str, Any]) -> Any:
    """The configuration of a space, with assignments and then the flags that were given."""
    from autometa.config import load_config

    given = {field: value for field, value in flags.items() if value is not None}
    return load_config(space, assignments or [], fields=given)
