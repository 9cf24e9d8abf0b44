"""Importances against what is known of the scores, in both directions, alone and with others."""

from __future__ import annotations

import random
from typing import Any

import optuna
import pytest
from optuna.distributions import FloatDistribution
from optuna.trial import create_trial

from autometa.report.importance_plot import importances
from autometa.report.importances import TooAlikeError, fanova, ped_anova

DOMAINS = {name: FloatDistribution(0.0, 1.0) for name in ("strong", "weak", "idle", "rare")}


def studied(
    *directions: str, sign: float = 1.0, trials: int = 60, rare: bool = False
) -> optuna.Study:
    """Scores that ``strong`` decides nearly alone; a second objective is ``weak`` alone."""
    study = optuna.create_study(directions=directions)
    rng = random.Random(0)
    for index in range(trials):
        own = ["strong", "weak", "idle", *(["rare"] if rare and index % 2 else [])]
        params = {name: rng.random() for name in own}
        score = sign * (params["strong"] ** 2 + 0.2 * params["weak"])
        values = [score, 1000.0 * params["weak"]][: len(directions)]
        domains = {name: DOMAINS[name] for name in own}
        study.add_trial(create_trial(params=params, distributions=domains, values=values))
    return study


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
@pytest.mark.parametrize("method", [ped_anova, fanova])
def test_the_parameter_that_decides_comes_first(method: Any, direction: str, sign: float) -> None:
    shares = method(studied(direction, sign=sign))
    assert sum(shares.values()) == pytest.approx(1)
    assert next(iter(shares)) == "strong"
    assert shares["strong"] > 0.5 > shares["weak"] > shares["idle"]


@pytest.mark.parametrize(("direction", "sign"), [("maximize", 1.0), ("minimize", -1.0)])
def test_of_several_objectives_it_is_the_score_that_counts(direction: str, sign: float) -> None:
    alone, several = (studied(*each, sign=sign) for each in ([direction], [direction, "minimize"]))
    assert ped_anova(several) == pytest.approx(ped_anova(alone))
    assert fanova(several) == pytest.approx(fanova(alone))


def test_what_half_of_the_trials_have_is_known_to_ped_anova_alone() -> None:
    study = studied("maximize", rare=True)
    assert set(ped_anova(study)) == {"strong", "weak", "idle", "rare"}
    assert set(fanova(study)) == {"strong", "weak", "idle"}
    plot = importances(study)
    assert plot.figure is not None
    told = {bar.name: dict(zip(bar.y, bar.x, strict=True)) for bar in plot.figure.data}
    assert told["PED-ANOVA"] == pytest.approx(ped_anova(study))
    assert told["fANOVA"].pop("rare") is None
    assert told["fANOVA"] == pytest.approx(fanova(study))


def test_a_page_made_again_shows_the_same() -> None:
    study = studied("maximize")
    assert importances(study).figure == importances(study).figure


def test_a_few_trials_are_called_a_hint() -> None:
    assert importances(studied("maximize", trials=20)).note.endswith(
        "a hint rather than a measurement."
    )
    assert importances(studied("maximize")).note.endswith("From 60 complete trials.")
    too_few = importances(studied("maximize", trials=3))
    assert (too_few.figure, too_few.alt[:32]) == (None, "3 complete trials are too few to")


def test_equal_scores_tell_nothing() -> None:
    study = studied("maximize", sign=0.0)
    with pytest.raises(TooAlikeError):
        ped_anova(study)
    assert importances(study).alt.startswith("The scores are too alike")


def test_without_trials_there_are_none() -> None:
    study = optuna.create_study()
    assert ped_anova(study) == fanova(study) == {}
