"""A profile of one trial of a search space."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from autometa.config import StudyConfig
from autometa.errors import ConfigError
from autometa.search.plan import plan
from autometa.search.space import RandomSuggest
from autometa.trial import TrialSpec
from autometa.trial.profiling import Operator, profile_iterations

COLUMNS = ("operator", "calls", "ms", "share", "MiB")
SHOWN = 15


@dataclass(frozen=True)
class Profile:
    """What was profiled, and its operators; numbers are of one meta-iteration."""

    spec: TrialSpec
    operators: list[Operator]

    @property
    def ms(self) -> float:
        return sum(operator.ms for operator in self.operators)

    def lines(self) -> list[tuple[str, ...]]:
        """The cells of :data:`COLUMNS` for the operators that take longest, and for the rest."""
        shown, rest = self.operators[:SHOWN], self.operators[SHOWN:]
        return [self._line(operator) for operator in [*shown, *_joined(rest)]]

    def _line(self, operator: Operator) -> tuple[str, ...]:
        share = f"{100 * operator.ms / self.ms:.1f} %" if self.ms else ""
        numbers = (f"{operator.calls:,.0f}", f"{operator.ms:,.2f}", share, f"{operator.mib:,.1f}")
        return (operator.name, *numbers)


def profile_space(config: StudyConfig, iterations: int, trace: Path) -> Profile:
    """Profile the first candidate that a random search with this seed would propose.

    Raises:
        UserError: The configuration can't be run, or the trace can't be written.
    """
    if iterations < 1:
        raise ConfigError(f"iterations is {iterations}, but must be at least 1")
    planned = plan(config)
    spec = planned.spec(planned.space.sample(RandomSuggest(config.seed)))
    if trace.is_dir() or not trace.parent.is_dir():
        raise ConfigError(f"trace is {str(trace)!r}, but must be a file in a folder that exists")
    with tempfile.TemporaryDirectory(dir=trace.parent, prefix=".profile-") as folder:
        written = Path(folder) / "trace.json"
        operators = profile_iterations(spec, iterations, written)
        os.replace(written, trace)
    return Profile(spec, operators)


def _joined(operators: list[Operator]) -> list[Operator]:
    """All of them as one."""
    if not operators:
        return []
    calls, ms, mib = (
        sum(getattr(operator, name) for operator in operators) for name in ("calls", "ms", "mib")
    )
    return [Operator(f"{len(operators)} others", calls, ms, mib)]
