"""Commands around dashboards: Optuna's, and Grafana's of what Ray exports."""

from __future__ import annotations

from importlib.resources import files
from typing import Annotated

import typer

from autometa.cli.common import Folder, Storage

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


def grafana() -> None:
    """Print a Grafana dashboard, as JSON, of the metrics that a search exports through Ray.

    Example: autometa grafana > autometa.json
    """
    typer.echo(files("autometa.report").joinpath("grafana.json").read_text(encoding="utf-8"))
