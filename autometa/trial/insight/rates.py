"""The learning rates of the inner loop as meta-training left them, steps × groups."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from autometa.learners.base import Learner, Params, under
from autometa.learners.inner_loop import INNER_LR, GradientLearner
from autometa.learners.metasgd import RATES
from autometa.learners.rates import RateVector, group_index, group_names

LEARNED = "learned"
LAYER = "layer"


def rates(learner: Learner[Any], params: Params) -> dict[str, Any] | None:
    """The rate vector among trained meta-parameters; None where the method has none.

    ``rows`` are its steps and ``columns`` the names of its groups; ``mode`` says whose the numbers
    are (see :class:`~autometa.learners.rates.RateVector`). Where every weight has a rate of its
    own, as in Meta-SGD, ``mean`` is true: a row for all steps, of the means over each layer.
    """
    if not isinstance(learner, GradientLearner):
        return None
    if INNER_LR in params:
        mode, groups = _kind(learner)
        names, table = group_names(learner.rated, groups), params[INNER_LR]
        fits = table.dim() == 2 and table.shape[1] == len(names)  # a learner may have it otherwise
        return _described(mode, groups, names, table, mean=False) if fits else None
    own = under(RATES, params)
    if not own:
        return None
    names = group_names(learner.rated, LAYER)
    return _described(LEARNED, LAYER, names, _layer_means(learner, own)[None], mean=True)


def _kind(learner: GradientLearner[Any]) -> tuple[str, str]:
    """Mode and groups; a learner's own vector may differ from the one in its hyper-parameters."""
    vector = getattr(learner, "rates", getattr(learner.hyper, INNER_LR, None))
    if isinstance(vector, RateVector):
        return vector.mode, vector.groups
    return LEARNED, str(getattr(learner.hyper, "groups", "scalar"))


def _layer_means(learner: GradientLearner[Any], own: Params) -> Tensor:
    """The mean over all rates of each layer, [layers]."""
    columns = group_index(learner.rated, LAYER)
    numbers: dict[int, list[Tensor]] = {}
    for name, value in own.items():
        column = columns[name.removeprefix("encoder.")]
        numbers.setdefault(column, []).append(value.flatten())
    return torch.stack([torch.cat(numbers[column]).mean() for column in sorted(numbers)])


def _described(
    mode: str, groups: str, names: list[str], table: Tensor, *, mean: bool
) -> dict[str, Any]:
    rows = table.tolist()
    return {"mode": mode, "groups": groups, "columns": names, "rows": rows, "mean": mean}
