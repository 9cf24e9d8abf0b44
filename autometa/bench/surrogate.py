"""What a configuration that wasn't recorded would have scored: a regression on those that were.

As in surrogate benchmarks (Eggensperger et al., "Efficient Benchmarking of Hyperparameter
Optimizers via Surrogates", AAAI 2015; Zela et al., "Surrogate NAS Benchmarks", ICLR 2022). Learning
curves are reduced to their principal components, each of which has a Gaussian process over the
configurations of all learners; so has the logarithm of the time.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.distributions import BaseDistribution, CategoricalDistribution
from scipy.stats import kendalltau
from sklearn.exceptions import ConvergenceWarning
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern, WhiteKernel

from autometa.bench.record import frozen_trial
from autometa.bench.records import Record
from autometa.search.space import SearchSpace
from autometa.trial import COMPLETE

Array = NDArray[np.float64]
Features = dict[str, float]
COMPONENTS = 3
FOLDS = 10


@dataclass(frozen=True)
class Prediction:
    """A trial as the surrogate has it: scores at each scoring, and CPU seconds up to the end."""

    scores: tuple[float, ...]
    seconds: float


@dataclass(frozen=True)
class CurveModel:
    """The regressions of curves and times."""

    columns: tuple[str, ...]
    mean: Array
    components: Array
    processes: tuple[GaussianProcessRegressor, ...]

    @classmethod
    def fit(cls, features: Sequence[Features], curves: Array, seconds: Array) -> CurveModel:
        """Fit to configurations' features, curves [N, R] and times [N]."""
        columns = tuple(sorted({name for each in features for name in each}))
        x, mean = _matrix(features, columns), curves.mean(0)
        _, _, directions = np.linalg.svd(curves - mean, full_matrices=False)
        components = directions[:COMPONENTS]
        targets = np.column_stack([(curves - mean) @ components.T, np.log(seconds)])
        return cls(columns, mean, components, tuple(_process(x, y) for y in targets.T))

    def predict(self, features: Sequence[Features]) -> tuple[Array, Array]:
        """Curves [N, R] and times [N]."""
        x = _matrix(features, self.columns)
        *weights, seconds = (process.predict(x) for process in self.processes)
        return self.mean + np.column_stack(weights) @ self.components, np.exp(seconds)


def _process(x: Array, y: Array) -> GaussianProcessRegressor:
    """Matérn 3/2 of one length scale: with one a feature, some hundred points are too few."""
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * Matern(4.0, (0.2, 1e2), nu=1.5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a value at its bound is an answer
        return GaussianProcessRegressor(
            kernel + WhiteKernel(0.05, (1e-4, 1.0)), normalize_y=True, random_state=0
        ).fit(x, y)


def _matrix(features: Sequence[Features], columns: Sequence[str]) -> Array:
    return np.array([[each.get(name, 0.0) for name in columns] for each in features])


def features_of(
    params: Mapping[str, Any],
    distributions: Mapping[str, BaseDistribution],
    candidate: Mapping[str, Any],
) -> Features:
    """Numbers within [-½, ½] on their own scale, choices as indicators, rates in short.

    What several learners have, such as a rate of the outer loop, is a feature of each and of all
    together. A parameter that a trial doesn't have is 0: the middle of its range.
    """
    found: Features = {}
    prefix = f"{candidate['learner']}."
    for name, value in params.items():
        scaled = _scaled(name, value, distributions[name])
        found |= scaled
        if name.startswith(prefix):
            found |= {key.removeprefix(prefix): each for key, each in scaled.items()}
    return found | _rates(candidate["hyper"])


def _scaled(name: str, value: Any, domain: Any) -> Features:
    if isinstance(domain, CategoricalDistribution):
        return {f"{name}={option}": float(value == option) for option in domain.choices}
    scale = math.log if domain.log else float
    low, high = scale(domain.low), scale(domain.high)
    return {name: (scale(value) - low) / (high - low) - 0.5}


def _rates(hyper: Mapping[str, Any]) -> Features:
    """How long a rate vector's steps are: decadic logarithms."""
    if "inner_lr" not in hyper:
        return {}
    rates = np.array(hyper["inner_lr"]["values"])
    return {
        "rates of the first step": float(np.log10(rates[0]).mean()),
        "rates of the last group": float(np.log10(rates[:, -1]).mean()),
        "rates together": float(np.log10(rates.sum(0)).mean()),
        "largest rate": float(np.log10(rates.max())),
    }


class Surrogate:
    """Every configuration of a recorded space, with a learning curve.

    Args:
        space: The space that was recorded.
        records: Its records; those that diverged are left out.

    Attributes:
        iterations: Meta-iterations of the scorings.
        chance: Standard deviation of a final score over seeds, from configurations recorded twice.
    """

    def __init__(self, space: SearchSpace, records: Iterable[Record]) -> None:
        complete = [each for each in records if each.end == COMPLETE]
        self._first = [each for each in complete if each.origin != "again"]
        self._features = [_features(space, each) for each in self._first]
        self._model = self._fitted(range(len(self._first)))
        self.iterations = self._first[0].iterations
        self.chance = _chance(self._first, [each for each in complete if each.origin == "again"])

    def predict(
        self,
        params: Mapping[str, Any],
        distributions: Mapping[str, BaseDistribution],
        candidate: Mapping[str, Any],
    ) -> Prediction:
        """The curve of a proposal."""
        curves, seconds = self._model.predict([features_of(params, distributions, candidate)])
        return Prediction(tuple(curves[0].clip(0.0, 1.0).tolist()), float(seconds[0]))

    def errors(self) -> dict[str, dict[str, float]]:
        """Cross-validated errors of the final scores, for each learner and ``all``."""
        everything = range(len(self._first))
        predicted, measured = np.zeros(len(everything)), self._final(everything)
        for fold in range(FOLDS):
            model = self._fitted([i for i in everything if i % FOLDS != fold])
            held = everything[fold::FOLDS]
            predicted[held] = model.predict([self._features[i] for i in held])[0][:, -1]
        found = {"all": _error(predicted, measured)}
        learners = np.array([each.candidate["learner"] for each in self._first])
        for name in sorted(set(learners)):
            found[str(name)] = _error(predicted[learners == name], measured[learners == name])
        return found

    def _fitted(self, chosen: Sequence[int]) -> CurveModel:
        curves = np.array([self._first[i].scores for i in chosen])
        seconds = np.array([self._first[i].seconds[-1] for i in chosen])
        return CurveModel.fit([self._features[i] for i in chosen], curves, seconds)

    def _final(self, chosen: Sequence[int]) -> Array:
        return np.array([self._first[i].scores[-1] for i in chosen])


def _features(space: SearchSpace, record: Record) -> Features:
    trial = frozen_trial(space, record.params, record.scores[-1])
    return features_of(trial.params, trial.distributions, record.candidate)


def _error(predicted: Array, measured: Array) -> dict[str, float]:
    residual = predicted - measured
    return {
        "configurations": len(measured),
        "rmse": float(np.sqrt((residual**2).mean())),
        "r2": float(1 - (residual**2).mean() / measured.var()),
        "kendall_tau": float(kendalltau(predicted, measured).statistic),
    }


def _chance(first: Sequence[Record], again: Sequence[Record]) -> float:
    """From pairs of runs that differ in their seed: half the mean square of the differences."""
    by_params = {str(dict(each.params)): each.scores[-1] for each in first}
    squares = [
        (each.scores[-1] - by_params[str(dict(each.params))]) ** 2
        for each in again
        if str(dict(each.params)) in by_params
    ]
    return math.sqrt(sum(squares) / len(squares) / 2) if squares else 0.0
