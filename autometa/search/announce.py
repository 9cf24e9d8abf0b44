"""What a running search writes into its storage for those who look on from elsewhere.

The trials are there anyway; these attributes of the study tell when this run of it began and what
it does beside trials.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from typing import Any

import optuna

from autometa.config import StudyConfig
from autometa.search.events import Event, Links, Observer, Phase, SearchStarted, TrialStarted
from autometa.search.study import counted, rows_of, score_direction, spent_s

RUN = "run"
PHASE = "phase"


def announced(
    study: optuna.Study, config: StudyConfig, links: Links, observer: Observer
) -> Observer:
    """Tell that the search begins; the observer to tell everything else.

    Args:
        links: Where Ray's dashboard is; without the secret one, which isn't kept.
    """
    known, spent = tuple(rows_of(study)), spent_s(study)
    ended = counted(known)
    run = {"began": time.time(), "ended": ended, "spent_s": spent, "dashboard": links.dashboard}
    study.set_user_attr(RUN, run)
    telling = Telling(study, observer)
    telling.keep(None)
    direction = score_direction(study)
    observer(SearchStarted(config, direction, ended, links, known, spent_s=spent))
    return telling


class Telling:
    """An observer that keeps the phase in the storage, and passes everything on."""

    def __init__(self, study: optuna.Study, observer: Observer) -> None:
        self._study = study
        self._observer = observer
        self._phase: Phase | None = None

    def __call__(self, event: Event) -> None:
        if isinstance(event, Phase):
            self.keep(event)
        elif isinstance(event, TrialStarted) and self._phase is not None:
            self.keep(None)
        self._observer(event)

    def keep(self, phase: Phase | None) -> None:
        """Write down what the search does beside trials."""
        self._phase = phase
        told: dict[str, Any] | None = asdict(phase) if phase else None
        self._study.set_user_attr(PHASE, told)
