"""Samplers by name: the same proposals after a restart, better ones than chance, on any space."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any, get_args

import optuna
import pytest
from optuna.trial import TrialState

from autometa.config import SamplerConfig, parse_config
from autometa.search.samplers import make_sampler
from autometa.search.space import build_space

NAMES = get_args(SamplerConfig.model_fields["name"].annotation)
MODELS = {"tpe": 60, "grouped_tpe": 60, "gp": 26, "cmaes": 80, "nsga2": 120, "nsga3": 120}


def loss(trial: optuna.Trial) -> float:
    """A vector of three rates and a choice: least at 0.1, 0.01 and 0.3, and for "b"."""
    rates = [trial.suggest_float(f"lr[{i}]", 1e-3, 1.0, log=True) for i in range(3)]
    best = zip(rates, (0.1, 0.01, 0.3), strict=True)
    wrong = trial.suggest_categorical("choice", ["a", "b", "c"]) != "b"
    return sum(math.log10(rate / goal) ** 2 for rate, goal in best) + 0.5 * wrong


def search(study: optuna.Study, name: str, trials: int) -> list[dict[str, Any]]:
    """Go on until there are so many trials; every third one is cut with what it had."""
    config = SamplerConfig(name=name, startup_trials=6)
    for number in range(len(study.trials), trials):
        study.sampler = make_sampler(config, 3, number)
        trial = study.ask()
        value = loss(trial)
        trial.report(value, 1)
        if number % 3:
            study.tell(trial, value)
        else:
            study.tell(trial, state=TrialState.PRUNED)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("name", NAMES)
def test_a_search_that_was_killed_proposes_as_one_that_was_not(name: str, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = search(optuna.create_study(), name, 12)
        storage = f"sqlite:///{tmp_path / 'study.db'}"
        search(optuna.create_study(study_name="s", storage=storage), name, 8)
        resumed = search(optuna.load_study(study_name="s", storage=storage), name, 12)
    assert resumed == whole
    assert len({str(params) for params in whole}) == 12


@pytest.mark.parametrize(("name", "trials"), MODELS.items())
def test_a_model_s_proposals_are_better_than_chance(name: str, trials: int) -> None:
    """The mean of the last 15, beside that of random search."""
    means = {}
    for each in (name, "random"):
        study = optuna.create_study()
        search(study, each, trials)
        found = [next(iter(trial.intermediate_values.values())) for trial in study.trials[-15:]]
        means[each] = sum(found) / len(found)
    assert means[name] < 0.75 * means["random"]


@pytest.mark.parametrize("name", NAMES)
def test_every_sampler_serves_a_conditional_space(name: str) -> None:
    rates = {"forms": ["product", "entries"], "groups": ["scalar", "layer"]}
    space = {
        "learners": {"maml": {"inner_lr": rates}, "protonet": {}},
        "backbones": {"conv": {"depth": [2, 3]}},
    }
    config = parse_config({"space": space, "sampler": {"name": name, "startup_trials": 3}})
    found = build_space(config.space, (1, 28, 28), "classification")
    study = optuna.create_study(direction="maximize")
    learners = set()
    for number in range(12):
        study.sampler = make_sampler(config.sampler, 0, number)
        trial = study.ask()
        candidate = found.sample(trial)
        learners.add(candidate.learner)
        study.tell(trial, candidate.hyper["meta_lr"] + (candidate.learner == "maml"))
    assert learners == {"maml", "protonet"}
