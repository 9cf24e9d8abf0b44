"""What a configuration that wasn't recorded would have scored: a regression on those that were.

As in surrogate benchmarks (Eggensperger et al., "Efficient Benchmarking of Hyperparameter
Optimizers via Surrogates", AAAI 2015; Zela et al., "Surrogate NAS Benchmarks", ICLR 2022): one
model a learner, of the parameters that its trials have. Learning curves are reduced to their
principal components, each of which has a Gaussian process; so has the logarithm of the time.
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
class LearnerModel:
    """The regressions of one learner's trials."""

    columns: tuple[str, ...]
    mean: Array
    components: Array
    processes: tuple[GaussianProcessRegressor, ...]

    @classmethod
    def fit(cls, features: Sequence[Features], curves: Array, seconds: Array) -> LearnerModel:
        """Fit to configurations' features, curves [N, R] and times [N]."""
        columns = tuple(sorted(_varied(features)))
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
    """Matérn 5/2 with a length scale a feature, and noise."""
    scales = Matern(np.full(x.shape[1], 2.0), (0.2, 100.0), nu=2.5)
    kernel = ConstantKernel(1.0, (1e-2, 1e2)) * scales + WhiteKernel(0.05, (1e-4, 1.0))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a scale at its bound is an answer
        return GaussianProcessRegressor(kernel, normalize_y=True, random_state=0).fit(x, y)


def features_of(
    params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]
) -> Features:
    """Numbers within [-½, ½] on their own scale, choices as indicators.

    A parameter that a trial doesn't have is 0: the middle of its range.
    """
    found: Features = {}
    for name, value in params.items():
        domain: Any = distributions[name]
        if isinstance(domain, CategoricalDistribution):
            found |= {f"{name}={option}": float(value == option) for option in domain.choices}
            continue
        scale = math.log if domain.log else float
        low, high = scale(domain.low), scale(domain.high)
        found[name] = (scale(value) - low) / (high - low) - 0.5
    return found


def _varied(features: Iterable[Features]) -> set[str]:
    """Columns with more than one value."""
    values: dict[str, set[float]] = {}
    features = list(features)
    for name in {name for each in features for name in each}:
        values[name] = {each.get(name, 0.0) for each in features}
    return {name for name, found in values.items() if len(found) > 1}


def _matrix(features: Sequence[Features], columns: Sequence[str]) -> Array:
    return np.array([[each.get(name, 0.0) for name in columns] for each in features])


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
        first = [each for each in complete if each.origin != "again"]
        self.iterations = first[0].iterations
        self.chance = _chance(first, [each for each in complete if each.origin == "again"])
        self._rows: dict[str, list[tuple[Features, Record]]] = {}
        for each in first:
            trial = frozen_trial(space, each.params, each.scores[-1])
            row = features_of(trial.params, trial.distributions), each
            self._rows.setdefault(str(each.candidate["learner"]), []).append(row)
        self._models = {learner: _fit(rows) for learner, rows in self._rows.items()}

    def predict(
        self, params: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], learner: str
    ) -> Prediction:
        """The curve of a proposal."""
        curves, seconds = self._models[learner].predict([features_of(params, distributions)])
        return Prediction(tuple(curves[0].clip(0.0, 1.0).tolist()), float(seconds[0]))

    def errors(self) -> dict[str, dict[str, float]]:
        """Cross-validated errors of the final scores, for each learner and ``all``."""
        found = {learner: _cross_validated(rows) for learner, rows in self._rows.items()}
        found["all"] = tuple(np.concatenate(pair) for pair in zip(*found.values(), strict=True))  # type: ignore[assignment]
        return {name: _error(*pair) for name, pair in found.items()}


def _fit(rows: Sequence[tuple[Features, Record]]) -> LearnerModel:
    curves = np.array([each.scores for _, each in rows])
    seconds = np.array([each.seconds[-1] for _, each in rows])
    return LearnerModel.fit([features for features, _ in rows], curves, seconds)


def _cross_validated(rows: Sequence[tuple[Features, Record]]) -> tuple[Array, Array]:
    """Final scores that were predicted without them, and those that were measured."""
    predicted = np.zeros(len(rows))
    for fold in range(FOLDS):
        held = [i for i in range(len(rows)) if i % FOLDS == fold]
        model = _fit([row for i, row in enumerate(rows) if i % FOLDS != fold])
        predicted[held] = model.predict([rows[i][0] for i in held])[0][:, -1]
    return predicted, np.array([each.scores[-1] for _, each in rows])


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
