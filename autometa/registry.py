"""Lazy tables of members: name → ``"module:factory"``.

Nothing is imported before it is asked for, so a fresh worker finds every member without import
side effects, and listing the names costs no torch import.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from autometa.errors import ConfigError, UnknownNameError


@dataclass(frozen=True)
class Registry:
    """One kind of member, ours and those that other packages bring as entry points.

    Args:
        kind: What a member is called in messages, ``"learner"``.
        group: The entry-point group that outside packages join, ``"autometa.learners"``.
        members: Our own members, name → ``"module:attribute"``.
    """

    kind: str
    group: str
    members: Mapping[str, str] = field(default_factory=dict)

    @cached_property
    def targets(self) -> dict[str, str]:
        """Name → ``"module:attribute"``, ours winning over an outside member of the same name."""
        outside = {point.name: point.value for point in entry_points(group=self.group)}
        return outside | dict(self.members)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self.targets))

    def __contains__(self, name: object) -> bool:
        return name in self.targets

    def load(self, name: str) -> Any:
        """The member itself.

        Raises:
            UnknownNameError: No member has this name; the message names the nearest one.
            ConfigError: An outside member's package can't be imported.
        """
        if name not in self.targets:
            raise UnknownNameError(self.kind, name, self.targets)
        module, _, attribute = self.targets[name].partition(":")
        try:
            return getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as error:
            if name in self.members:
                raise
            raise ConfigError(
                f"{self.kind} {name!r} is registered as {self.targets[name]!r}, "
                f"which can't be loaded: {error}"
            ) from error
