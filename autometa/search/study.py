"""The trials of a study in Optuna's storage, which is the only truth about them."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import DuplicatedStudyError, ExperimentalWarning
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from autometa.config import StudyConfig, without_password
from autometa.errors import StudyError
from autometa.search.folder import StudyFolder

optuna.logging.set_verbosity(optuna.logging.WARNING)

MAXIMIZE = "maximize"
MINIMIZE = "minimize"
METRICS = {MAXIMIZE: "accuracy", MINIMIZE: "mse"}
CURVE = "curve"
LAST = "last"
"""Attribute of a trial: seconds, interval and measures of its last report, written at once."""
SIZES = ("parameters", "macs")

COMPLETE = "complete"
PRUNED = "pruned"
DIVERGED = "diverged"
FAILED = "failed"
REJECTED = "rejected"
RUNNING = "running"


@dataclass(frozen=True)
class TrialRow:
    """One trial as status, report and finalists see it.

    Attributes:
        end: ``complete``, ``pruned`` (cut by the scheduler or the clock), ``diverged``,
            ``failed``, ``rejected`` (over a limit, never started) or ``running``.
        curve: Meta-iteration → score on meta-validation tasks.
        seconds: Training and scoring time.
        measures: What is known of it beside the score: ``parameters`` and ``macs``, and of a
            complete trial ``adaptation`` (ms a task), ``memory`` (bytes) and ``ece`` where they
            are objectives.
        ended_at: When it ended, in seconds since 1970; None while it runs.
    """

    number: int
    name: str
    end: str
    reason: str
    score: float | None
    ci95: float | None
    iteration: int
    seconds: float
    candidate: dict[str, Any]
    params: dict[str, Any]
    curve: dict[int, float]
    measures: dict[str, float] = field(default_factory=dict)
    ended_at: float | None = None

    @property
    def learner(self) -> str:
        return str(self.candidate.get("learner", ""))

    @property
    def backbone(self) -> str:
        return str(self.candidate.get("backbone", ""))


def storage_of(config: StudyConfig) -> optuna.storages.BaseStorage:
    """The Optuna storage: the URL given, or SQLite in the study folder.

    Raises:
        StudyError: The storage can't be reached, or its driver isn't installed.
    """
    url = config.storage or f"sqlite:///{StudyFolder(config.folder).database}"
    options: dict[str, Any] = (
        {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {"pool_pre_ping": True}
    )
    shown = without_password(url)
    try:
        if config.storage is None:
            _make_database(StudyFolder(config.folder).database)
        return optuna.storages.RDBStorage(_with_driver(url), engine_kwargs=options)
    except ImportError:
        raise StudyError(
            f"storage {shown!r} needs a database driver that isn't installed: "
            "for PostgreSQL, pip install 'autometa[postgresql]'"
        ) from None
    except Exception as error:  # SQLAlchemy and each driver raise their own
        reason = str(getattr(error, "orig", None) or error).strip().splitlines()[0]
        raise StudyError(
            f"storage {shown!r} can't be used ({reason}): "
            "give a URL such as sqlite:///study.db or postgresql://user:password@host/database"
        ) from None


def _make_database(path: Path) -> None:
    """The study's own database with its tables, whole or not at all.

    Whoever looks at the study while it begins would make them as well, and one of the two fails.
    """
    if path.exists():
        return
    temporary = path.with_name(f".{path.name}.part")
    storage = optuna.storages.RDBStorage(f"sqlite:///{temporary}")
    storage.remove_session()
    storage.engine.dispose()
    temporary.replace(path)


def _with_driver(url: str) -> str:
    """PostgreSQL by the driver of our extra: what SQLAlchemy takes by itself changed in 2.1."""
    scheme, separator, rest = url.partition("://")
    return f"postgresql+psycopg2://{rest}" if separator and scheme == "postgresql" else url


def create_study(
    config: StudyConfig, storage: optuna.storages.BaseStorage, direction: str
) -> optuna.Study:
    """A new Optuna study.

    Raises:
        StudyError: The storage holds a study of this name already.
    """
    others = [MINIMIZE] * len(config.several[1:])
    directions = [direction, *others]
    try:
        study = optuna.create_study(
            study_name=config.name,
            storage=storage,
            directions=[StudyDirection[each.upper()] for each in directions],
            load_if_exists=False,
        )
    except DuplicatedStudyError:
        raise StudyError(
            f"the storage holds a study named {config.name!r} already: choose another name"
        ) from None
    if config.several:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            study.set_metric_names(list(config.several))
    return study


def score_direction(study: optuna.Study) -> str:
    """The score's direction; it is the first of several objectives."""
    return study.directions[0].name.lower()


def objectives_of(study: optuna.Study) -> list[str]:
    """The names of several objectives, the score first; none where it is the only one."""
    return study.metric_names or []


def curve_of(trial: FrozenTrial) -> dict[int, float]:
    """Meta-iteration → score; Optuna keeps none for several objectives, so an attribute does."""
    kept = trial.user_attrs.get(CURVE)
    return dict(sorted(trial.intermediate_values.items() if kept is None else kept))


def report_score(
    trial: optuna.Trial,
    score: float,
    iteration: int,
    *,
    seconds: float = 0.0,
    ci95: float | None = None,
    measures: Mapping[str, float] | None = None,
) -> None:
    """Keep a score of a running trial, for :func:`curve_of`, and what is known beside it.

    Without an interval, as a trial that diverged is, that of the report before stays.
    """
    if ci95 is None:
        ci95 = trial.user_attrs.get(LAST, {}).get("ci95")
    last = {"seconds": seconds, "ci95": ci95, "measures": dict(measures or {})}
    trial.set_user_attr(LAST, last)
    if len(trial.study.directions) == 1:
        trial.report(score, iteration)
    else:
        earlier = trial.user_attrs.get(CURVE, [])
        trial.set_user_attr(CURVE, [*earlier, (iteration, score)])


def known_storage(config: StudyConfig) -> optuna.storages.BaseStorage:
    """The storage of a study that was begun.

    Raises:
        StudyError: It is lost, or can't be reached.
    """
    if config.storage is None and not StudyFolder(config.folder).database.exists():
        raise StudyError(f"{str(config.folder)!r} has no study.db: its trials are lost")
    if config.storage and "***" in config.storage:
        raise StudyError(
            f"the study's storage is {config.storage!r}: give its URL with --storage or in "
            "AUTOMETA_STORAGE, since passwords aren't kept in the study folder"
        )
    return storage_of(config)


def load_optuna_study(
    config: StudyConfig, storage: optuna.storages.BaseStorage | None = None
) -> optuna.Study:
    """The existing Optuna study of a configuration.

    Args:
        storage: Its storage, if that is open already.

    Raises:
        StudyError: The storage can't be reached or doesn't hold the study.
    """
    try:
        return optuna.load_study(study_name=config.name, storage=storage or known_storage(config))
    except KeyError:
        raise StudyError(f"the storage holds no study named {config.name!r}") from None


def trial_name(number: int, candidate: dict[str, Any]) -> str:
    """``maml-conv-007``: learner, backbone, number."""
    return f"{candidate['learner']}-{candidate['backbone']}-{number:03d}"


def row(trial: FrozenTrial) -> TrialRow:
    """A trial of the storage as a :class:`TrialRow`."""
    attributes = trial.user_attrs
    last = attributes.get(LAST, {})
    candidate = attributes.get("candidate", {})
    curve = curve_of(trial)
    finite = {step: value for step, value in curve.items() if value == value}
    latest = max(finite, default=0)
    return TrialRow(
        number=trial.number,
        name=trial_name(trial.number, candidate) if candidate else f"trial-{trial.number:03d}",
        end=str(attributes.get("end", RUNNING)),
        reason=str(attributes.get("reason", "")),
        score=trial.values[0] if trial.values else finite.get(latest),
        ci95=last.get("ci95"),
        iteration=max(curve, default=0),
        seconds=float(last.get("seconds", 0.0)),
        candidate=candidate,
        params=dict(trial.params),
        curve=finite,
        measures={name: candidate[name] for name in SIZES if name in candidate}
        | last.get("measures", {}),
        ended_at=trial.datetime_complete.timestamp() if trial.datetime_complete else None,
    )


def frozen(trial: optuna.Trial) -> FrozenTrial:
    """A trial as it is in the storage, which isn't to be changed."""
    return trial.storage.get_trial(trial._trial_id)


def rows_of(study: optuna.Study) -> list[TrialRow]:
    """All trials that were ever proposed, in their order."""
    trials = study.get_trials(deepcopy=False)
    return [row(trial) for trial in trials if "candidate" in trial.user_attrs]


def counted(rows: Iterable[TrialRow]) -> int:
    """Trials that the budget counts: ended, and started at all."""
    return sum(r.end not in (RUNNING, REJECTED) for r in rows)


def best_first(rows: Iterable[TrialRow], direction: str) -> list[TrialRow]:
    """Complete trials, best score first; of equals the older one leads."""
    complete = [r for r in rows if r.end == COMPLETE and r.score is not None]
    sign = -1.0 if direction == MAXIMIZE else 1.0
    return sorted(complete, key=lambda r: (sign * (r.score or 0.0), r.number))


def spent_s(study: optuna.Study) -> float:
    """Wall time of the search so far, up to the last trial that ended."""
    return float(study.user_attrs.get("search_s", 0.0))


def unfinished(study: optuna.Study) -> list[optuna.Trial]:
    """Live handles of the trials that a dead driver left running."""
    running = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
    return [optuna.Trial(study, frozen._trial_id) for frozen in running]


def end_trial(trial: optuna.Trial, end: str, reason: str = "") -> None:
    """Close a trial in the storage with its end and reason.

    Only ``complete`` has a value; ``failed`` tells the sampler nothing; the other ends teach it
    by the scores reported so far (``diverged``: by a NaN, the worst there is).
    """
    if reason:
        trial.set_user_attr("reason", reason)
    trial.set_user_attr("end", end)
    study = trial.study
    if end == COMPLETE:
        done = row(frozen(trial))
        last = done.curve[max(done.curve)]
        study.tell(trial, [last, *(done.measures[name] for name in objectives_of(study)[1:])])
    else:
        study.tell(trial, state=TrialState.FAIL if end == FAILED else TrialState.PRUNED)
