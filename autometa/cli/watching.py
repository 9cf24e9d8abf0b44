"""Commands that look at a study without driving it."""

from __future__ import annotations

from autometa.cli.common import Folder, Storage, console


def status(folder: Folder, storage: Storage = None) -> None:
    """Show a study as it stands, running or not.

    Example: autometa status trials/first
    """
    from autometa import api
    from autometa.report.status import status_table

    study = api.load_study(folder, storage)
    table = status_table(study.config, study.rows, study.result, study.folder.running())
    console().print(table)
