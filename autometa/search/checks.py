"""What is refused of a search before its study starts."""

from __future__ import annotations

from collections.abc import Sequence

from autometa.config import LimitsConfig
from autometa.episodes import Dataset
from autometa.errors import ConfigError
from autometa.learners.domains import Choice, Domain, Float, Int, Rates
from autometa.search.domains import Fixed
from autometa.search.population import OUTER
from autometa.search.space import Candidate, RandomSuggest, SearchSpace, rows

PROBES = 100


def check_limits(space: SearchSpace) -> None:
    """Refuse limits that no network of the space seems to meet.

    Raises:
        ConfigError: None of :data:`PROBES` random networks of each backbone is within them.
    """
    limits = space.limits
    if limits == LimitsConfig():
        return
    smallest = timed = None
    for name, choices in space.backbones.items():
        for seed in range(PROBES):
            sample, backbone = choices.sample(RandomSuggest(seed), name)
            probe = Candidate("", {}, name, sample, backbone.parameters, backbone.macs)
            smallest = min(smallest or probe, probe, key=lambda each: each.parameters)
            # One with more MACs than another that was too slow isn't worth the time.
            if probe.excess(limits) is None and (timed is None or probe.macs < timed.macs):
                timed = probe.timed(backbone, limits)
                if timed.excess(limits) is None:
                    return
    assert smallest is not None
    took = f"; one of {timed.macs:,} takes {timed.latency_ms:,} ms" if timed else ""
    raise ConfigError(
        f"space.limits refuse every one of {PROBES} random networks (the smallest has "
        f"{smallest.parameters:,} parameters and {smallest.macs:,} MACs{took}): raise them"
    )


def check_objectives(objectives: Sequence[str], score: str, data: Dataset) -> None:
    """Refuse objectives that the data don't have; ``score`` is what theirs is called.

    Raises:
        ConfigError: The score is called by another's name, or a regression has no calibration.
    """
    if objectives and objectives[0] != score:
        raise ConfigError(
            f"objectives begin with {objectives[0]!r}, but the score of a {data.problem} is "
            f"{score!r}"
        )
    if "ece" in objectives and data.problem != "classification":
        raise ConfigError("objectives name 'ece', but a regression has no calibration error")


def check_grid(space: SearchSpace) -> None:
    """Refuse a space that can't be enumerated.

    Raises:
        ConfigError: Names the first continuous dimension.
    """
    for name, domain, _ in rows(space):
        if isinstance(domain, Float | Rates):
            raise ConfigError(
                f"sampler.name is 'grid', but {name} is continuous: fix it, list some values, "
                "or choose another sampler"
            )


def check_population(space: SearchSpace) -> None:
    """Refuse a space in which a population has nothing to explore.

    Raises:
        ConfigError: Names the first learner none of whose outer hyper-parameters is searched.
    """
    searched = {name for name, domain, _ in rows(space) if _open(domain)}
    for learner in space.learners:
        if not any(f"{learner}.{field}" in searched for field in OUTER):
            raise ConfigError(
                f"scheduler.name is 'pbt', but space.learners.{learner} searches none of "
                f"{', '.join(OUTER)}, which is all that it may change in training: search one"
            )


def _open(domain: Domain | Fixed) -> bool:
    """Whether there is more than one value."""
    match domain:
        case Choice(options):
            return len(options) > 1
        case Float(low, high) | Int(low, high):
            return low < high
        case _:
            return False
