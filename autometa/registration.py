"""Learners and backbone spaces of one's own, registered by a decorator where they are defined."""

from __future__ import annotations

import dataclasses
import inspect
import linecache
import sys
from collections.abc import Callable
from typing import Any, TypeVar

from autometa.backbones import BACKBONES
from autometa.errors import ConfigError
from autometa.learners import LEARNERS

C = TypeVar("C", bound=type[Any])
SOURCE = "__autometa_source__"
"""Attribute of a registered learner: the text of its file or cell, of which a bundle has a part."""


def register_learner(name: str) -> Callable[[C], C]:
    """Decorate a learner's class, and ``name`` is a learner of searches in this program.

    The class may stand in a script or notebook: workers get its code, and so does the study folder,
    so that the study can be resumed. A name of one's own can be registered anew.

    Raises:
        ConfigError: The name is one of autometa's, or the class is no learner.
    """
    here = sys._getframe(1)
    text = "".join(linecache.getlines(here.f_code.co_filename))

    def register(cls: C) -> C:
        from autometa.learners.base import Hyper, Learner

        _check(f"learner {name!r}", cls, Learner)
        hyper = getattr(cls, "hyper_type", None)
        if not (isinstance(hyper, type) and issubclass(hyper, Hyper)):
            raise ConfigError(
                f"learner {name!r} has hyper_type {hyper!r}, but it must be a dataclass of "
                "hyper-parameters that extends autometa.learners.base.Hyper"
            )
        for field in dataclasses.fields(hyper):
            if "domain" not in field.metadata:
                raise ConfigError(
                    f"learner {name!r} has a hyper-parameter {field.name!r} without a domain: "
                    "make it by autometa.learners.domains.hyper(default, domain, meaning)"
                )
        LEARNERS.register(name, cls)
        if cls.__module__ == here.f_globals.get("__name__"):  # else it has a file of its own
            setattr(cls, SOURCE, text)
        return cls

    return register


def register_backbone(name: str) -> Callable[[C], C]:
    """The same for a backbone space.

    Raises:
        ConfigError: The name is one of autometa's, or the class is no backbone space.
    """

    def register(cls: C) -> C:
        from autometa.backbones.base import BackboneSpace

        _check(f"backbone {name!r}", cls, BackboneSpace)
        for attribute in ("summary", "input_rank"):
            if not hasattr(cls, attribute):
                raise ConfigError(f"backbone {name!r} lacks the class attribute {attribute!r}")
        BACKBONES.register(name, cls)
        return cls

    return register


def _check(told: str, cls: Any, base: type[Any]) -> None:
    """Refuse what isn't a whole member of a contract."""
    if not (isinstance(cls, type) and issubclass(cls, base)):
        raise ConfigError(f"{told} is {cls!r}, but it must be a class that extends {base.__name__}")
    if inspect.isabstract(cls):
        missing = ", ".join(sorted(cls.__abstractmethods__))  # type: ignore[attr-defined]
        raise ConfigError(f"{told} lacks {missing}, which {base.__name__} asks for")
