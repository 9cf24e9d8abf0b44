"""A study from its configuration to its result: trials, finalists, winner, meta-test."""

from __future__ import annotations

import shutil
from pathlib import Path

from autometa.config import StudyConfig, parse_config
from autometa.engine.precision import set_precision
from autometa.episodes.progress import listening
from autometa.errors import StudyError
from autometa.search.cluster import Cluster
from autometa.search.earlier import read_earlier, to_text
from autometa.search.events import Observer, Phase, SearchStarted, ignore
from autometa.search.folder import StudyFolder, create_folder
from autometa.search.members import pickled
from autometa.search.plan import Plan, plan
from autometa.search.study import (
    counted,
    create_study,
    known_storage,
    load_optuna_study,
    rows_of,
    storage_of,
)
from autometa.trial.members import members_of


def search(
    config: StudyConfig, observer: Observer = ignore, *, dashboard: bool = True
) -> StudyFolder:
    """Run a new study to its end.

    Args:
        dashboard: Whether Ray has its dashboard, and exports metrics.

    Raises:
        UserError: Bad input; nothing is left behind.
        Interrupted: Stopped by the user; the study folder can be resumed.
    """
    planned = prepared(config, observer)
    earlier = read_earlier(planned.config, planned.space)
    folder = create_folder(
        planned.config,
        {
            "name": planned.data.name,
            "fingerprint": planned.data.fingerprint,
            "shape": list(planned.data.input_shape),
        },
        to_text(earlier) if earlier else None,
        pickled(planned.config),
    )
    with folder.lock(), Cluster(planned.config, dashboard, planned.data.input_shape) as cluster:
        try:
            from autometa.search.drive import drive  # takes its time, as Ray does meanwhile

            storage = storage_of(planned.config)
            links = cluster.wait()
            study = create_study(planned.config, storage, planned.direction)
        except BaseException:
            shutil.rmtree(folder.path, ignore_errors=True)
            raise
        drive(planned, folder, study, storage, observer, links)
    return folder


def prepared(config: StudyConfig, observer: Observer) -> Plan:
    """The plan of a study; whoever watches sees how far its data are.

    From then on this process, which times candidates if the study limits that, is as exact as
    those of the trials.
    """
    set_precision(config.resources.precision)
    name = config.data.name
    with listening(lambda done, total: observer(Phase("data", done, total, name))):
        return plan(config)


def resume(
    folder: Path,
    observer: Observer = ignore,
    storage: str | None = None,
    *,
    dashboard: bool = True,
) -> StudyFolder:
    """Go on with a study, wherever it was when its process ended; as :func:`search`.

    Raises:
        UserError: No study there, its data have changed, or another process drives it.
        Interrupted: Stopped by the user again.
    """
    home = StudyFolder(folder)
    config = home.config()
    with members_of(home.members):
        return _resumed(home, config, observer, storage, dashboard)


def _resumed(
    home: StudyFolder,
    config: StudyConfig,
    observer: Observer,
    storage: str | None,
    dashboard: bool,
) -> StudyFolder:
    if storage:
        config = parse_config(config.model_dump(mode="json") | {"storage": storage})
    try:
        opened = known_storage(config)
        study = load_optuna_study(config, opened)
    except StudyError:
        if config.storage is not None or not home.untouched():
            raise
        study = None  # its process died before the first trial was proposed
    planned = prepared(config, observer)
    known = home.manifest().get("data", {}).get("fingerprint")
    if known != planned.data.fingerprint:
        raise StudyError(
            f"the data of study {str(home.path)!r} have changed since it was begun: "
            "its scores can't be continued; start a new study"
        )
    if study is None:
        opened = storage_of(config)
        study = create_study(config, opened, planned.direction)
    ended = home.read_result() is not None and home.insight.exists()
    if ended:  # at most its bundle and report are missing
        known = tuple(rows_of(study))
        observer(SearchStarted(planned.config, planned.direction, counted(known), known=known))
        return home
    with home.lock(), Cluster(planned.config, dashboard, planned.data.input_shape) as cluster:
        from autometa.search.drive import drive

        drive(planned, home, study, opened, observer, cluster.wait())
    return home
