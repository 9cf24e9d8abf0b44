"""Commands that look at a study without driving it."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from autometa.cli.common import Folder, Storage, console
from autometa.cli.running import show_result


def status(
    folder: Folder,
    storage: Storage = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a study as it stands, running or not.

    Example: autometa status trials/first
    """
    from autometa import api

    _show(api.load_study(folder, storage), as_json)


def watch(
    folder: Folder,
    storage: Storage = None,
    every: Annotated[float, typer.Option(min=0.1, help="Seconds between two looks.")] = 2.0,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print events as `search --json` does.")
    ] = False,
) -> None:
    """Follow a search that runs elsewhere, as its own terminal shows it; ends with it, or Ctrl-C.

    Its storage is only read, so any number may watch. A study that doesn't run is shown once.

    Example: autometa watch trials/first
    """
    from autometa import api
    from autometa.report.json_lines import JsonView
    from autometa.report.views import make_view
    from autometa.search.folder import StudyFolder
    from autometa.search.follow import follow

    home = StudyFolder(folder)
    home.config()  # a folder without a study is refused before anything is shown
    if not as_json and not home.running():
        _show(api.load_study(folder, storage), as_json)
        return
    view = make_view(console(), as_json=as_json)
    try:
        with view:
            follow(folder, storage, view, every)
    except KeyboardInterrupt:
        return
    study = api.load_study(folder, storage)
    if isinstance(view, JsonView):
        view.ended(study.folder.path, study.result)
    elif study.result is None:
        _show(study, as_json)
    else:
        show_result(study)


def _show(study: Any, as_json: bool) -> None:
    from autometa.report.status import status_json, status_table
    from autometa.search.study import score_direction

    direction = score_direction(study.optuna_study)
    known = (study.config, study.rows, study.result, study.folder.running(), direction)
    if as_json:
        typer.echo(json.dumps(status_json(*known, study.optuna_study.user_attrs)))
    else:
        console().print(status_table(*known))
