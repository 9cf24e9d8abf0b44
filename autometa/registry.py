"""Lazy tables of members: name → ``"module:factory"``.

Nothing is imported before it is asked for, so a fresh worker finds every member without import
side effects, and listing the names costs no torch import. What a program registers while it runs
is the member itself, of that process alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
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
        registered: Members of this process alone, as they are.
    """

    kind: str
    group: str
    members: Mapping[str, str] = field(default_factory=dict)
    registered: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def targets(self) -> dict[str, str]:
        """Name → ``"module:attribute"``, ours winning over an outside member of the same name."""
        outside = {point.name: point.value for point in entry_points(group=self.group)}
        return outside | dict(self.members)

    def __iter__(self) -> Iterator[str]:
        return iter(sorted({*self.targets, *self.registered}))

    def __contains__(self, name: object) -> bool:
        return name in self.targets or name in self.registered

    def register(self, name: str, member: Any) -> None:
        """Give this process a member of its own; one of the same name is replaced.

        Raises:
            ConfigError: The name is one of ours, or no Python identifier.
        """
        if name in self.members:
            raise ConfigError(f"{self.kind} {name!r} is one of autometa's: choose another name")
        if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            raise ConfigError(
                f"{self.kind} {name!r} can't be registered: its name must be letters, digits and _"
            )
        self.registered[name] = member

    @contextmanager
    def lent(self, members: Mapping[str, Any]) -> Iterator[None]:
        """These members beside, or in place of, those that are registered, for a while."""
        before = dict(self.registered)
        self.registered.update(members)
        try:
            yield
        finally:
            self.registered.clear()
            self.registered.update(before)

    def load(self, name: str) -> Any:
        """The member itself.

        Raises:
            UnknownNameError: No member has this name; the message names the nearest one.
            ConfigError: An outside member's package can't be imported.
        """
        if name in self.registered:
            return self.registered[name]
        if name not in self.targets:
            raise UnknownNameError(self.kind, name, self)
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
