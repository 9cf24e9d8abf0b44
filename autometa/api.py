"""What the command line does, for Python: search, resume, load a study, use a bundle."""

from __future__ import annotations

import importlib.util
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autometa.config import StudyConfig, load_config, parse_config
from autometa.errors import BundleError, StudyError
from autometa.search.events import Observer, Phase, ignore

if TYPE_CHECKING:
    import optuna
    import pandas as pd
    from torch import Tensor

    from autometa.episodes.function import TaskFunction
    from autometa.export.formats.base import Winner
    from autometa.search.folder import StudyFolder
    from autometa.search.study import TrialRow


@dataclass(frozen=True)
class StudyView:
    """A study on disk, running or not."""

    folder: StudyFolder
    config: StudyConfig
    optuna_study: optuna.Study

    @property
    def rows(self) -> list[TrialRow]:
        from autometa.search.study import rows_of

        return rows_of(self.optuna_study)

    @property
    def trials(self) -> pd.DataFrame:
        """One row a trial, one column a searched parameter."""
        from autometa.report.frames import trials_frame

        return trials_frame(self.rows)

    @property
    def curves(self) -> pd.DataFrame:
        """One row a scoring of a trial on meta-validation tasks."""
        from autometa.report.frames import curves_frame

        return curves_frame(self.rows)

    @property
    def importances(self) -> pd.DataFrame:
        """How much of the score each parameter explains."""
        from autometa.report.frames import importances_frame

        return importances_frame(self.optuna_study)

    @property
    def pareto(self) -> pd.DataFrame:
        """The trials that no other beats in all objectives."""
        from autometa.report.frames import pareto_frame

        return pareto_frame(self.optuna_study)

    @property
    def result(self) -> dict[str, Any] | None:
        """Winner, baseline, finalists and cost; None until the search has ended."""
        return self.folder.read_result()


def search(
    space: StudyConfig | Mapping[str, Any] | str | Path,
    observer: Observer = ignore,
    *,
    tasks: TaskFunction | None = None,
    warm_start: Iterable[str | Path] = (),
    dashboard: bool = True,
) -> StudyView:
    """Run a study to its end, with its report and the winner's bundle.

    Args:
        space: A configuration: as :func:`load_config` gives it, its fields as a mapping, a YAML
            file, or the name of one of ours.
        tasks: One's own tasks, in place of the configuration's ``data`` and ``task``: a function of
            a split (``"train"``, ``"validation"`` or ``"test"``) and a ``torch.Generator`` that
            yields tasks (support_x, support_y, query_x, query_y), all chance being the
            generator's. See :mod:`autometa.episodes.function`. Trials train on the first split and
            are compared on the second; the third is for the winner, at the end.
        dashboard: Whether Ray has its dashboard, and exports metrics.
        warm_start: Folders of earlier studies to learn from, besides those of the configuration.

    Raises:
        UserError: Bad input; nothing is left behind.
        Interrupted: Stopped by the user; :func:`resume` goes on.
    """
    from autometa.search import run

    config = _configuration(space)
    if tasks is not None:
        config = _with_tasks(config, tasks)
    _check_own(config)
    earlier = [*config.warm_start, *warm_start]
    config = parse_config(config.model_dump(mode="json") | {"warm_start": earlier})
    return _finish(run.search(config, observer, dashboard=dashboard), config.storage, observer)


def _configuration(space: StudyConfig | Mapping[str, Any] | str | Path) -> StudyConfig:
    if isinstance(space, StudyConfig):
        return space
    return parse_config(space) if isinstance(space, Mapping) else load_config(space)


def _with_tasks(config: StudyConfig, function: TaskFunction) -> StudyConfig:
    """The configuration with the data set that a function of tasks makes.

    Raises:
        DataError: It doesn't give tasks.
    """
    from autometa.episodes import DATASETS
    from autometa.episodes.function import FunctionDataset, options_of

    name = getattr(function, "__name__", type(function).__name__).strip("<>")
    DATASETS.register(name, options_of(name, function))
    shape = FunctionDataset(name, function).shape
    task = {each: getattr(shape, each) for each in ("ways", "shots", "queries")}
    own = {"data": {"name": name}, "task": task}
    return parse_config(config.model_dump(mode="json") | own)


def _check_own(config: StudyConfig) -> None:
    """Refuse a registered learner or backbone that couldn't leave as a bundle at the end."""
    from autometa.export.own import brings_own, check_own

    if brings_own(config):
        from autometa.episodes import load

        check_own(config, load(config.data.name, config.data.options).input_shape)


def resume(
    folder: str | Path,
    observer: Observer = ignore,
    storage: str | None = None,
    *,
    dashboard: bool = True,
) -> StudyView:
    """Go on with a study; as :func:`search`."""
    from autometa.search import run

    found = run.resume(Path(folder), observer, storage, dashboard=dashboard)
    return _finish(found, storage, observer)


def load_study(folder: str | Path, storage: str | None = None) -> StudyView:
    """A study as it stands.

    Raises:
        StudyError: No study there, or its storage can't be reached.
    """
    from autometa.search.folder import StudyFolder
    from autometa.search.study import load_optuna_study

    home = StudyFolder(Path(folder))
    config = home.config()
    if storage:
        config = config.model_copy(update={"storage": storage})
    return StudyView(home, config, load_optuna_study(config))


def load_bundle(folder: str | Path, **options: Any) -> Any:
    """The learner in an exported bundle, as the bundle's own ``load`` gives it.

    From then on this process multiplies as exactly on a GPU as the study did.

    Raises:
        BundleError: There is no bundle, or it is damaged.
    """
    path = Path(folder)
    if not (path / "__init__.py").is_file():
        raise BundleError(f"{str(folder)!r} holds no bundle: it has no __init__.py")
    name = f"autometa_bundle_{abs(hash(path.absolute()))}"
    _forget(name)  # the folder may hold another bundle by now
    spec = importlib.util.spec_from_file_location(
        name, path / "__init__.py", submodule_search_locations=[str(path)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
        _set_precision(path)
        return module.load(**options)
    except (ImportError, SyntaxError, AttributeError, NameError, OSError, ValueError) as error:
        raise BundleError(f"the bundle {str(folder)!r} is damaged: {error}") from None


def _set_precision(bundle: Path) -> None:
    from autometa.trial import TrialSpec, set_precision

    results = bundle / "results.json"
    told = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    entry = told.get("picked") or told.get("winner") or {}
    set_precision(entry.get("spec", {}).get("precision", TrialSpec.precision))


def adapt(
    bundle: str | Path, support_x: Any, support_y: Any, **options: Any
) -> Callable[[Tensor], Tensor]:
    """The model of a bundle, adapted to one task.

    For many tasks, :func:`load_bundle` reads the bundle once, and its ``adapt`` is the same.

    Args:
        bundle: The folder.
        support_x: Inputs [n, …] as the model was trained on, array or tensor.
        support_y: Labels [n], 0 … N−1, or real targets [n, D].
        options: Of the bundle's ``load``: ``device``, ``dtype``.

    Returns:
        A function from query inputs to logits [m, N], or predictions [m, D].

    Raises:
        BundleError: There is no bundle, or it is damaged.
        ValueError: Shapes or labels don't fit.
    """
    import torch

    adapted = load_bundle(bundle, **options).adapt(
        torch.as_tensor(support_x), torch.as_tensor(support_y)
    )
    return lambda query_x: adapted(torch.as_tensor(query_x))


def _forget(package: str) -> None:
    for name in [name for name in sys.modules if f"{name}.".startswith(f"{package}.")]:
        del sys.modules[name]


def export(
    folder: str | Path,
    to: str | Path,
    storage: str | None = None,
    pick: str | None = None,
    observer: Observer = ignore,
    *,
    format: str = "bundle",
    lossy: bool = False,
) -> Path:
    """Write the winner, or the trial that a rule picks, in one of the formats.

    Args:
        format: A name of :func:`autometa.formats`.
        lossy: Whether the format may leave out what it can't express: see :func:`losses`.

    Raises:
        ConfigError: ``pick`` is no rule (see :mod:`autometa.search.rule`), or no format has the
            name.
        StudyError: The study has no winner yet, or no trial that meets the rule.
        BundleError: The target exists already or can't be written, the format has no place for
            the model, or would lose some of it.
    """
    from autometa.export.write import format_of, write_winner

    format_of(format)
    observer(Phase("export", 0, 2, "reading the study"))
    with _winner(folder, storage, pick) as winner:
        observer(Phase("export", 1, 2, f"writing: {format}"))
        return write_winner(winner, format, Path(to), lossy=lossy)


def losses(
    folder: str | Path, format: str, storage: str | None = None, pick: str | None = None
) -> list[str]:
    """What of the model a format can't express, a clause each; raises as :func:`export`."""
    from autometa.export.write import format_of, losses_of

    format_of(format)
    with _winner(folder, storage, pick) as winner:
        return losses_of(winner, format)


@contextmanager
def _winner(folder: str | Path, storage: str | None, pick: str | None) -> Iterator[Winner]:
    """With what the study's program registered."""
    from autometa.export.formats.base import Winner
    from autometa.trial.members import members_of

    study = load_study(folder, storage)
    with members_of(study.folder.members):
        result, entry = winner_of(study), model_of(study, pick)
        yield Winner(study.folder, study.config, result, entry)


def model_of(study: StudyView, pick: str | None = None) -> dict[str, Any]:
    """What ``result.json`` says of the winner, or would say of the trial that a rule picks."""
    from autometa.search.pick import pick as picked

    result = winner_of(study)
    if pick is None:
        winner: dict[str, Any] = result["winner"]
        return winner
    return picked(study.optuna_study, study.config, study.folder, result, pick)


def winner_of(study: StudyView) -> dict[str, Any]:
    """The result of a study that has ended.

    Raises:
        StudyError: It has not.
    """
    result = study.result
    if result is None:
        path = study.folder.path
        raise StudyError(f"study {str(path)!r} has no winner yet: run `autometa resume {path}`")
    return result


def formats() -> list[str]:
    """Names of the formats of export, those of installed plug-ins included."""
    from autometa.export.formats import FORMATS

    return list(FORMATS)


def learners() -> list[str]:
    """Names of the meta-learners, those registered or of installed plug-ins included."""
    from autometa.learners import LEARNERS

    return list(LEARNERS)


def datasets() -> list[str]:
    """Names of the data sets, those of installed plug-ins included."""
    from autometa.episodes import DATASETS

    return list(DATASETS)


def report(
    folder: str | Path,
    storage: str | None = None,
    observer: Observer = ignore,
    *,
    pdf: str | Path | None = None,
    png: str | Path | None = None,
    browser: str | None = None,
) -> Path:
    """Write ``report.html`` and ``trials.csv`` of a study as it stands, and pictures of the page.

    Args:
        pdf: A file for the printed page.
        png: A file for the whole page as a picture.
        browser: The Chromium that draws these; default: one on PATH.

    Raises:
        StudyError: No study there, or its storage can't be reached.
        BrowserError: A picture is asked for that can't be drawn or written.
    """
    from autometa.report.printing import check_target, find_browser, write_pdf, write_png

    targets = [(Path(path), write) for path, write in ((pdf, write_pdf), (png, write_png)) if path]
    for path, _ in targets:
        check_target(path)
    command = find_browser(browser) if targets else ""
    page = _report(load_study(folder, storage), observer)
    for path, write in targets:
        observer(Phase("pictures", 0, 1, path.name))
        write(page, path, command)
    return page


def _report(study: StudyView, observer: Observer) -> Path:
    from autometa.report.frames import write_csv
    from autometa.report.html import write_report

    observer(Phase("report", 0, 2, study.folder.trials_csv.name))
    write_csv(study.trials, study.folder.trials_csv)
    observer(Phase("report", 1, 2, study.folder.report.name))
    return write_report(study.folder, study.optuna_study, study.config)


def _finish(folder: StudyFolder, storage: str | None, observer: Observer) -> StudyView:
    """Bundle and report; what an earlier run wrote already is kept or written anew."""
    from autometa.export.bundle import write_bundle
    from autometa.trial.members import members_of

    study = load_study(folder.path, storage)
    observer(Phase("bundle and report", 0, 2))
    if not folder.bundle.exists():
        with members_of(folder.members):
            write_bundle(folder, study.config, winner_of(study), folder.bundle)
    observer(Phase("bundle and report", 1, 2))
    _report(study, ignore)
    observer(Phase("bundle and report", 2, 2))
    return study
