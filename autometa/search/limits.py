"""Whether any network can be within a study's limits, found out before it starts."""

from __future__ import annotations

from autometa.config import LimitsConfig
from autometa.errors import ConfigError
from autometa.search.space import Candidate, RandomSuggest, SearchSpace

PROBES = 100


def check_limits(space: SearchSpace) -> None:
    """Refuse limits that no network of the space seems to meet.

    Raises:
        ConfigError: None of :data:`PROBES` random networks of each backbone is within them.
    """
    if space.limits == LimitsConfig():
        return
    smallest = None
    for name, choices in space.backbones.items():
        for seed in range(PROBES):
            sample, backbone = choices.sample(RandomSuggest(seed), name)
            probe = Candidate("", {}, name, sample, backbone.parameters, backbone.macs)
            probe = probe.timed(backbone, space.limits)
            if probe.excess(space.limits) is None:
                return
            smallest = min(smallest or probe, probe, key=lambda each: each.parameters)
    assert smallest is not None
    took = "" if smallest.latency_ms is None else f" and takes {smallest.latency_ms:,} ms"
    raise ConfigError(
        f"space.limits refuse every one of {PROBES} random networks (the smallest has "
        f"{smallest.parameters:,} parameters and {smallest.macs:,} MACs{took}): raise them"
    )
