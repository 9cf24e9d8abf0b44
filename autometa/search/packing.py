"""How many trials share a GPU, where the configuration leaves it to measurement.

The most costly of some random candidates trains for a few meta-iterations on a GPU of its own. As
many fit as their memory allows, and no more than keep the GPU at work: what one leaves idle.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import ray

from autometa.config import StudyConfig
from autometa.config.parts import AUTO
from autometa.search.space import Candidate, RandomSuggest, SearchSpace
from autometa.search.worker import use_threads
from autometa.trial import Need, TrialSpec, gpu_need

CANDIDATES = 50
USABLE = 0.9
"""Of a GPU's memory: trials differ, and an allocator needs room between its blocks."""
MOST = 16

SpecOf = Callable[[Candidate], TrialSpec]


def packed(config: StudyConfig, space: SearchSpace, spec_of: SpecOf) -> StudyConfig:
    """The configuration with a number in the place of ``auto``; Ray has to run."""
    if config.resources.gpus_per_trial != AUTO:
        return config
    share = _share(config, space, spec_of)
    resources = config.resources.model_copy(update={"gpus_per_trial": share})
    return config.model_copy(update={"resources": resources})


def _share(config: StudyConfig, space: SearchSpace, spec_of: SpecOf) -> float:
    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    if not total.get("GPU"):
        return 0.0
    if config.resources.cohort > 1:  # which is large enough for a whole one
        return 1.0
    spec = spec_of(costliest(space))
    cpus = config.resources.cpus_per_trial
    probe = ray.remote(num_cpus=cpus, num_gpus=1, max_calls=1)(_probe)
    return share_of(ray.get(probe.remote(spec.to_json(), cpus)))


def _probe(spec: dict[str, Any], cpus: float) -> Need | None:
    use_threads(cpus)
    try:
        return gpu_need(TrialSpec.from_json(spec))
    except Exception:  # what a trial fails of, it will tell itself when it is run
        return None


def share_of(need: Need | None) -> float:
    """The GPUs of a trial that needs this; a whole one where nothing is known.

    Ray counts in ten-thousandths.
    """
    if need is None:
        return 1.0
    fit = math.floor(USABLE / need.memory) if need.memory > 0 else MOST
    useful = math.ceil(1 / need.busy) if need.busy > 0 else MOST
    trials = max(1, min(fit, useful, MOST))
    return math.floor(10_000 / trials) / 10_000


def costliest(space: SearchSpace) -> Candidate:
    """The one of some random candidates within the limits that computes most in an iteration."""
    found = [space.sample(RandomSuggest(f"packing {seed}")) for seed in range(CANDIDATES)]
    allowed = [each for each in found if each.excess(space.limits) is None]
    return max(allowed or found, key=_cost)


def _cost(candidate: Candidate) -> float:
    hyper = candidate.hyper
    return float(candidate.macs) * int(hyper["meta_batch"]) * int(hyper.get("inner_steps", 1))
