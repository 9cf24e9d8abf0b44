"""Commands around dashboards: Optuna's, and Grafana's of what Ray exports."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path
from typing import Annotated

import typer

from autometa.cli.common import Folder, Storage
from autometa.errors import ConfigError

Port = Annotated[int, typer.Option(min=1, max=65535, help="On this machine only.")]


def dashboard(folder: Folder, port: Port = 8080, storage: Storage = None) -> None:
    """Open Optuna's dashboard on a study, running or not; ends with Ctrl-C.

    It needs `pip install 'autometa[dashboard]'`.

    Example: autometa dashboard trials/first --port 8081
    """
    from autometa import api
    from autometa.report.optuna_board import HOST, serve

    study = api.load_study(folder, storage).optuna_study
    typer.echo(f"http://{HOST}:{port}/dashboard (Ctrl-C ends it)")
    serve(study._storage, port)


def grafana(
    to: Annotated[Path | None, typer.Option(help="File to write; default: print it.")] = None,
) -> None:
    """Give a Grafana dashboard, as JSON, of the metrics that a search exports through Ray.

    Example: autometa grafana --to autometa.json
    """
    board = files("autometa.report").joinpath("grafana.json").read_text(encoding="utf-8")
    if to is None:
        typer.echo(board, nl=False)
        return
    from autometa.search.folder import write_atomically

    try:
        write_atomically(to, board)
    except OSError as error:
        raise ConfigError(
            f"--to is {str(to)!r}, which can't be written: {error.strerror}"
        ) from None
