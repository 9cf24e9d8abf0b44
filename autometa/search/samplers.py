"""Optuna's samplers by the name that a configuration gives them, one for each proposal.

A sampler lives for a single proposal: what it needs of the trials before is in the storage, so a
search that was killed proposes the same as one that wasn't.

The space is conditional, and most of Optuna's samplers model what every trial has in common only:
``cmaes``, ``gp``, ``nsga2``, ``nsga3`` and ``qmc`` are for studies of one learner and one backbone
whose vectors keep their shape. What they leave (conditional dimensions, and for ``cmaes`` and
``qmc`` choices too) TPE proposes, for ``nsga2`` and ``nsga3`` chance. ``tpe`` is as Optuna has it:
from version 5 on, of a single objective, what all trials have in common is taken together and each
other dimension by itself. ``grouped_tpe`` takes those together that trials have together. Both
serve any space, and so do ``evolution`` and ``grid``, which tries every point of a space that has
no continuous dimension.

With ``parts``, each part of a space has its own sampler, and joint ones see only trials of the
same structure: ``{"*.inner_lr*": cmaes, "conv.*": evolution}``.

Samplers of other packages join as entry points of ``autometa.samplers``: a function of the study's
:class:`SamplerConfig`, its seed and the number of the trial, like those here. Ours are plain Optuna
samplers, for any study: ``study.optimize(f, sampler=EvolutionSampler(seed=0))``.
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
from autometa.errors import ConfigError
from autometa.registry import Registry
from autometa.search.bounded import BoundedSampler
from autometa.search.evolution import EvolutionSampler
from autometa.search.parted import Part, PartedSampler

POPULATION = 20
"""Of a generation of NSGA; Optuna's 50 would be a whole study."""

JOINT = ("gp", "cmaes", "nsga2", "nsga3", "qmc")
"""Ours that model what all trials have in common; those of other packages may."""
INDEPENDENT = ("tpe", "grouped_tpe", "evolution", "random", "grid")
SAMPLERS = Registry(
    "sampler",
    "autometa.samplers",
    {name: f"autometa.search.samplers:{name}" for name in (*JOINT, *INDEPENDENT)},
)

Factory = Callable[[SamplerConfig, int, int], BaseSampler]


class GridSampler(BruteForceSampler):
    """Every point once, in random order."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed=seed)

    def after_trial(self, *_: Any) -> None:
        """Nothing: whoever asks sees that a point comes again, and ends the search."""


def check_samplers(config: SamplerConfig) -> None:
    """Refuse samplers that don't exist.

    Raises:
        ConfigError: A name that no sampler has, or a package's that can't be imported.
    """
    fields = {"sampler.name": config.name}
    fields |= {f"sampler.parts.{pattern}": name for pattern, name in config.parts.items()}
    for field, name in fields.items():
        try:
            SAMPLERS.load(name)
        except ConfigError as error:
            raise ConfigError(f"{field}: {error}") from None


def make_sampler(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """The sampler for one trial, seeded by its number: a resumed search proposes the same."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        whole = _whole(config, seed, number)
    # A grid has to know every point that was tried.
    return whole if config.name == "grid" else BoundedSampler(whole)


def _whole(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    def one(name: str) -> BaseSampler:
        factory: Factory = SAMPLERS.load(name)
        return factory(config, seed, number)

    if not config.parts:
        return one(config.name)
    parts = config.parts | {"*": config.name}
    return PartedSampler(
        [Part(pattern, one(name), name not in INDEPENDENT) for pattern, name in parts.items()]
    )


def mixed(seed: int, number: int) -> int:
    """A seed of a single proposal."""
    return (seed * 1_000_003 + number) % 2**32


def tpe(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's TPE by its own defaults."""
    startup = config.startup_trials
    return TPESampler(seed=mixed(seed, number), n_startup_trials=startup, constant_liar=True)


def grouped_tpe(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's multivariate TPE, in groups of dimensions that trials have together."""
    return TPESampler(
        seed=mixed(seed, number),
        n_startup_trials=config.startup_trials,
        multivariate=True,
        group=True,
        constant_liar=True,
    )


def gp(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's Gaussian process."""
    return GPSampler(n_startup_trials=config.startup_trials, **_beside_tpe(config, seed, number))


def cmaes(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's CMA-ES."""
    # Without the trials that were cut, a search with ASHA leaves it next to nothing.
    shared = _beside_tpe(config, seed, number) | {"consider_pruned_trials": True}
    return CmaEsSampler(n_startup_trials=config.startup_trials, **shared)


def qmc(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's quasi-Monte Carlo: a sequence needs one seed from its first point to its last."""
    shared = _beside_tpe(config, seed, number) | {"seed": seed % 2**32}
    return QMCSampler(scramble=True, warn_asynchronous_seeding=False, **shared)


def evolution(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Regularised evolution."""
    return EvolutionSampler(mixed(seed, number), startup=config.startup_trials)


def nsga2(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's NSGA-II."""
    return NSGAIISampler(population_size=POPULATION, seed=mixed(seed, number))


def nsga3(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's NSGA-III."""
    return NSGAIIISampler(population_size=POPULATION, seed=mixed(seed, number))


def random(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Optuna's random sampler."""
    return RandomSampler(seed=mixed(seed, number))


def grid(config: SamplerConfig, seed: int, number: int) -> BaseSampler:
    """Every point of a space without continuous dimensions."""
    return GridSampler(mixed(seed, number))


def _beside_tpe(config: SamplerConfig, seed: int, number: int) -> dict[str, Any]:
    """TPE proposes what a sampler leaves, and nobody is warned of it."""
    rest = tpe(config, seed, number)
    return {
        "seed": mixed(seed, number),
        "independent_sampler": rest,
        "warn_independent_sampling": False,
    }
