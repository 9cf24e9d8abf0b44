"""Optuna's own dashboard on a study's storage."""

from __future__ import annotations

import errno

import optuna

from autometa.errors import StudyError

HOST = "127.0.0.1"


def serve(storage: optuna.storages.BaseStorage, port: int) -> None:
    """Serve it on this machine until the process is interrupted.

    Raises:
        StudyError: optuna-dashboard isn't installed, or the port is taken.
    """
    try:
        from optuna_dashboard import run_server
    except ImportError:
        raise StudyError(
            "optuna-dashboard isn't installed: pip install 'autometa[dashboard]'"
        ) from None
    try:
        run_server(storage, host=HOST, port=port)
    except OSError as error:
        if error.errno not in (errno.EADDRINUSE, errno.EACCES):
            raise
        raise StudyError(f"--port is {port}, which can't be used here: choose another") from None
