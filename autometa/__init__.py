"""autometa finds the best meta-learner for a family of few-shot tasks.

    import autometa

    study = autometa.search("quickstart")          # or a StudyConfig, a mapping, a YAML file
    study.trials                                   # a pandas DataFrame
    predict = autometa.adapt(study.folder.bundle, support_x, support_y)

Importing this package costs no torch import: everything is loaded when it is first used.
"""

from __future__ import annotations

import sys
from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from autometa.api import (
        StudyView,
        adapt,
        datasets,
        export,
        formats,
        learners,
        load_bundle,
        load_study,
        losses,
        report,
        resume,
        search,
    )
    from autometa.config import StudyConfig, load_config
    from autometa.errors import UserError
    from autometa.registration import register_backbone, register_learner

__version__ = "0.1.0"

__all__ = [
    "StudyConfig",
    "StudyView",
    "UserError",
    "adapt",
    "datasets",
    "export",
    "formats",
    "learners",
    "load_bundle",
    "load_config",
    "load_study",
    "losses",
    "register_backbone",
    "register_learner",
    "report",
    "resume",
    "search",
]

_HOMES = {
    "StudyConfig": "autometa.config",
    "UserError": "autometa.errors",
    "load_config": "autometa.config",
    "register_backbone": "autometa.registration",
    "register_learner": "autometa.registration",
}


class _Package(ModuleType):
    """Some functions have the name of a subpackage: where that is imported, it can be called."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name in __all__ and isinstance(value, ModuleType):
            value.__class__ = _Callable
        super().__setattr__(name, value)


class _Callable(ModuleType):
    """``autometa.search``, imported: a package, and the function."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return __getattr__(self.__name__.rpartition(".")[2])(*args, **kwargs)


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'autometa' has no attribute {name!r}")
    return getattr(import_module(_HOMES.get(name, "autometa.api")), name)


sys.modules[__name__].__class__ = _Package
