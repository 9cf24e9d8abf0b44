"""autometa finds the best meta-learner for a family of few-shot tasks.

    import autometa

    study = autometa.search(autometa.load_config("quickstart"))
    study.trials                                   # a pandas DataFrame
    learner = autometa.load_bundle(study.folder.bundle)

Importing this package costs no torch import: everything is loaded when it is first used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autometa.api import (
        StudyView,
        export,
        load_bundle,
        load_study,
        losses,
        report,
        resume,
        search,
    )
    from autometa.config import StudyConfig, load_config
    from autometa.errors import UserError

__version__ = "0.1.0"

__all__ = [
    "StudyConfig",
    "StudyView",
    "UserError",
    "datasets",
    "export",
    "formats",
    "learners",
    "load_bundle",
    "load_config",
    "load_study",
    "losses",
    "report",
    "resume",
    "search",
]

_HOMES = {
    "StudyConfig": "autometa.config",
    "UserError": "autometa.errors",
    "load_config": "autometa.config",
}


def learners() -> list[str]:
    """Names of the meta-learners, those of installed plug-ins included."""
    from autometa.learners import LEARNERS

    return list(LEARNERS)


def datasets() -> list[str]:
    """Names of the data sets, those of installed plug-ins included."""
    from autometa.episodes import DATASETS

    return list(DATASETS)


def formats() -> list[str]:
    """Names of the formats of export, those of installed plug-ins included."""
    from autometa.export.formats import FORMATS

    return list(FORMATS)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'autometa' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "autometa.api")), name)
