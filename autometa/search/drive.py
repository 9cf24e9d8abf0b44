"""A study on Ray: trials, finalists, winner, meta-test."""

from __future__ import annotations

from dataclasses import replace

import optuna
import torch._dynamo  # noqa: F401 (counting MACs imports it: better now, while Ray starts)

from autometa.search.announce import announced
from autometa.search.conclude import conclude
from autometa.search.events import Interrupted, Links, Observer, together
from autometa.search.folder import StudyFolder, write_json
from autometa.search.gauges import SearchGauges
from autometa.search.mirror import mirrored
from autometa.search.packing import packed
from autometa.search.plan import Plan
from autometa.search.study import rows_of, storage_of
from autometa.search.supernet.phase import prepare
from autometa.search.tuner import run_trials


def drive(
    planned: Plan,
    folder: StudyFolder,
    study: optuna.Study,
    observer: Observer,
    links: Links,
) -> None:
    """To the result, from wherever the study is.

    Args:
        links: Where Ray's dashboard is.

    Raises:
        Interrupted: Stopped by the user before that.
    """
    study = mirrored(study, storage_of(planned.config))
    config = packed(planned.config, planned.space, planned.spec)
    gauges = SearchGauges(config.name, planned.direction, rows_of(study))
    observer = together(announced(study, config, links, observer), gauges)
    try:
        space = planned.space
        if planned.job is not None:
            space = prepare(planned.job, space, config, study, observer)
        if not run_trials(study, space, config, planned.spec, observer):
            raise Interrupted(str(folder.path))
        folder.drop_kept()
        write_json(
            folder.result, conclude(replace(planned, config=config), folder, study, observer)
        )
    except KeyboardInterrupt:
        raise Interrupted(str(folder.path)) from None
    finally:
        gauges.close()
