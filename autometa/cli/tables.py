"""``autometa table``: a study for other programs' tables."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from autometa.cli.common import Folder, Storage
from autometa.errors import ConfigError


class Frame(StrEnum):
    TRIALS = "trials"
    CURVES = "curves"
    IMPORTANCES = "importances"
    PARETO = "pareto"


def table(
    folder: Folder,
    frame: Annotated[Frame, typer.Argument(help="What to tabulate.")] = Frame.TRIALS,
    to: Annotated[
        Path | None, typer.Option(help="File to write: .csv or .parquet; default: print CSV.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Give a study as a table: its trials, learning curves, importances or Pareto front.

    Example: autometa table trials/first curves --to curves.parquet
    """
    from autometa import api
    from autometa.report.frames import write_csv, write_parquet

    writers = {".csv": write_csv, ".parquet": write_parquet}
    if to is not None and to.suffix not in writers:
        raise ConfigError(f"--to is {str(to)!r}, but must end in .csv or .parquet")
    found = getattr(api.load_study(folder, storage), frame.value)
    if to is None:
        typer.echo(found.to_csv(index=False), nl=False)
        return
    try:
        writers[to.suffix](found, to)
    except OSError as error:
        raise ConfigError(
            f"--to is {str(to)!r}, which can't be written: {error.strerror}"
        ) from None
