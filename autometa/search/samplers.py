"""Optuna's samplers by the name that a configuration gives them, one for each proposal.

A sampler lives for a single proposal: what it needs of the trials before is in the storage, so a
search that was killed proposes the same as one that wasn't.

The space is conditional, and most of Optuna's samplers model what every trial has in common only:
``cmaes``, ``gp``, ``nsga2``, ``nsga3`` and ``qmc`` are for studies of one learner and one backbone
whose vectors keep their shape. What they leave (conditional dimensions, and for ``cmaes`` and
``qmc`` choices too) TPE proposes, for ``nsga2`` and ``nsga3`` chance. ``tpe`` takes each dimension
by itself and ``grouped_tpe`` those together that trials have together; both serve any space, and so
do ``evolution`` and ``grid``, which tries every point of a space that has no continuous dimension.

With ``parts``, each part of a space has its own sampler, and joint ones see only trials of the
same structure: ``{"*.inner_lr*": cmaes, "conv.*": evolution}``.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import (
    BaseSampler,
    BruteForceSampler,
    CmaEsSampler,
    GPSampler,
    NSGAIIISampler,
    NSGAIISampler,
    QMCSampler,
    RandomSampler,
    TPESampler,
)

from autometa.config import SamplerConfig
from autometa.search.bounded import BoundedSampler
from autometa.search.evolution import EvolutionSampler
from autometa.search.parted import Part, PartedSampler

POPULATION = 20
"""Of a generation of the evolutionary samplers; Optuna's 50 would be a whole study."""
TOURNAMENT = 5
CROSSOVER = 0.5

JOINT = frozenset({"gp", "cmaes", "nsga2", "nsga3", "qmc"})
"""Those that model what all trials have in common."""

Factory = Callable[[SamplerConfig, int], BaseSampler]


class GridSampler(BruteForceSampler):
    """Every point once, in random order."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)

    def after_trial(self, *_: Any) -> None:
        """Nothing: whoever asks sees that a point comes again, and ends the search."""


def make_sampler(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """The sampler for one trial, seeded by its number: a resumed search proposes the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        whole = _whole(config, seed, number)
    # A grid has to know every point that was tried.
    return whole if config.name == "grid" else BoundedSampler(whole)


def _whole(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    if not config.parts:
        return _one(config.name, config, seed, number)
    parts = config.parts | {"*": config.name}
    return PartedSampler(
        [
            Part(pattern, _one(name, config, seed, number), name in JOINT)
            for pattern, name in parts.items()
        ]
    )


def _one(name: str, config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    mixed = (seed * 1_000_003 + number) % 2**32
    if name == "qmc":  # a sequence needs one seed from its first point to its last
        shared = _beside_tpe(config, mixed) | {"seed": seed % 2**32}
        return QMCSampler(scramble=True, warn_asynchronous_seeding=False, **shared)
    return FACTORIES[name](config, mixed)


def _tpe(config: SamplerConfig, seed: int) -> BaseSampler:
    return TPESampler(seed=seed, n_startup_trials=config.startup_trials, constant_liar=True)


def _grouped_tpe(config: SamplerConfig, seed: int) -> BaseSampler:
    return TPESampler(
        seed=seed,
        n_startup_trials=config.startup_trials,
        multivariate=True,
        group=True,
        constant_liar=True,
    )


def _gp(config: SamplerConfig, seed: int) -> BaseSampler:
    return GPSampler(n_startup_trials=config.startup_trials, **_beside_tpe(config, seed))


def _cmaes(config: SamplerConfig, seed: int) -> BaseSampler:
    # Without the trials that were cut, a search with ASHA leaves it next to nothing.
    shared = _beside_tpe(config, seed) | {"consider_pruned_trials": True}
    return CmaEsSampler(n_startup_trials=config.startup_trials, **shared)


def _evolution(config: SamplerConfig, seed: int) -> BaseSampler:
    return EvolutionSampler(
        seed,
        population=POPULATION,
        tournament=TOURNAMENT,
        crossover=CROSSOVER,
        startup=config.startup_trials,
    )


def _beside_tpe(config: SamplerConfig, seed: int) -> dict[str, Any]:
    """TPE proposes what a sampler leaves, and nobody is warned of it."""
    rest = _tpe(config, seed)
    return {"seed": seed, "independent_sampler": rest, "warn_independent_sampling": False}


FACTORIES: dict[str, Factory] = {
    "tpe": _tpe,
    "grouped_tpe": _grouped_tpe,
    "gp": _gp,
    "cmaes": _cmaes,
    "nsga2": lambda _, seed: NSGAIISampler(population_size=POPULATION, seed=seed),
    "nsga3": lambda _, seed: NSGAIIISampler(population_size=POPULATION, seed=seed),
    "evolution": _evolution,
    "grid": lambda _, seed: GridSampler(seed),
    "random": lambda _, seed: RandomSampler(seed=seed),
}
