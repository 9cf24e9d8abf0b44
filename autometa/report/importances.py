"""How much of the scores each parameter explains, by two methods that differ in what they ask.

PED-ANOVA (Watanabe et al., IJCAI 2023) asks what sets the best tenth of the trials apart, and knows
parameters that only some trials have. fANOVA (Hutter et al., ICML 2014) asks what moves the score
anywhere, and knows only parameters that all complete trials have.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING

from autometa.search.study import MAXIMIZE, score_direction

if TYPE_CHECKING:
    import optuna
    from optuna.trial import FrozenTrial

SEED = 0
TOO_ALIKE = "Target and region quantiles select the same"  # Optuna warns, and calls all equal


class TooAlikeError(ValueError):
    """The best trials are no better than the others."""


def ped_anova(study: optuna.Study) -> dict[str, float]:
    """Parameter → share, largest first; nothing where there are too few trials.

    Raises:
        TooAlikeError: The scores are all alike.
    """
    from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it is experimental, and that trials are few
        warnings.filterwarnings("error", TOO_ALIKE, UserWarning)
        try:
            return get_param_importances(
                study, evaluator=PedAnovaImportanceEvaluator(), target=_low_is_good(study)
            )
        except UserWarning:
            raise TooAlikeError from None
        except (ValueError, RuntimeError):
            return {}


def fanova(study: optuna.Study) -> dict[str, float]:
    """The same by fANOVA; its trees are drawn with one seed, so that a page stays as it is."""
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return get_param_importances(
                study,
                evaluator=FanovaImportanceEvaluator(seed=SEED),
                target=None if len(study.directions) == 1 else _score,
            )
        except (ValueError, RuntimeError):
            return {}


def _score(trial: FrozenTrial) -> float:
    return float(trial.values[0])


def _low_is_good(study: optuna.Study) -> Callable[[FrozenTrial], float] | None:
    """Of several objectives the score, turned as PED-ANOVA wants it; of one it knows itself."""
    if len(study.directions) == 1:
        return None
    sign = -1.0 if score_direction(study) == MAXIMIZE else 1.0
    return lambda trial: sign * _score(trial)
