"""A study on Ray: trials, finalists, winner, meta-test, and a closer look at the winner."""

from __future__ import annotations

from dataclasses import replace

import optuna
import torch._dynamo  # noqa: F401 (counting MACs imports it: better now, while Ray starts)
from optuna.storages import BaseStorage

from autometa.search.announce import announced
from autometa.search.conclude import conclude
from autometa.search.events import Interrupted, Links, Observer, together
from autometa.search.folder import StudyFolder, write_json
from autometa.search.gauges import SearchGauges
from autometa.search.look import look_closer
from autometa.search.mirror import mirrored
from autometa.search.packing import packed
from autometa.search.plan import Plan
from autometa.search.study import rows_of
from autometa.search.supernet.phase import prepare
from autometa.search.tuner import run_trials


def drive(
    planned: Plan,
    folder: StudyFolder,
    study: optuna.Study,
    storage: BaseStorage,
    observer: Observer,
    links: Links,
) -> None:
    """To the result and the look at its winner, from wherever the study is.

    Args:
        storage: Where the study is.
        links: Where Ray's dashboard is.

    Raises:
        Interrupted: Stopped by the user before that.
    """
    study = mirrored(study, storage)
    config = packed(planned.config, planned.space, planned.spec)
    gauges = SearchGauges(config.name, planned.direction, rows_of(study))
    observer = together(announced(study, config, links, observer), gauges)
    try:
        if folder.read_result() is None:
            _to_result(replace(planned, config=config), folder, study, observer)
        look_closer(folder, config, observer)
    except KeyboardInterrupt:
        raise Interrupted(str(folder.path)) from None
    finally:
        gauges.close()


def _to_result(planned: Plan, folder: StudyFolder, study: optuna.Study, observer: Observer) -> None:
    space = planned.space
    if planned.job is not None:
        space = prepare(planned.job, space, planned.config, study, observer)
    if not run_trials(study, space, planned.config, planned.spec, observer):
        raise Interrupted(str(folder.path))
    folder.drop_kept()
    write_json(folder.result, conclude(planned, folder, study, observer))
