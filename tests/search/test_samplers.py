"""Samplers by name: the same proposals after a restart, better ones than chance, on any space."""

from __future__ import annotations

import itertools
import math
import re
import warnings
from pathlib import Path
from typing import Any

import optuna
import pytest
from optuna.trial import TrialState

from autometa.config import SamplerConfig, parse_config
from autometa.errors import ConfigError
from autometa.registry import Registry
from autometa.search.evolution import EvolutionSampler, fitness
from autometa.search.samplers import INDEPENDENT, JOINT, SAMPLERS, check_samplers, make_sampler
from autometa.search.space import build_space

NAMES = (*JOINT, *INDEPENDENT)
ANYWHERE = [name for name in NAMES if name != "grid"]
MODELS = {
    "tpe": 60,
    "grouped_tpe": 60,
    "gp": 26,
    "cmaes": 80,
    "nsga2": 120,
    "nsga3": 120,
    "evolution": 80,
}
PARTS = {"lr*": "cmaes", "choice": "evolution"}


def loss(trial: optuna.Trial) -> float:
    """A vector of three rates and a choice: least at 0.1, 0.01 and 0.3, and for "b"."""
    rates = [trial.suggest_float(f"lr[{i}]", 1e-3, 1.0, log=True) for i in range(3)]
    best = zip(rates, (0.1, 0.01, 0.3), strict=True)
    wrong = trial.suggest_categorical("choice", ["a", "b", "c"]) != "b"
    return sum(math.log10(rate / goal) ** 2 for rate, goal in best) + 0.5 * wrong


def search(study: optuna.Study, name: str, trials: int, parts: Any = None) -> list[dict[str, Any]]:
    """Go on until there are so many trials; every third one is cut with what it had."""
    config = SamplerConfig(name=name, startup_trials=6, parts=parts or {})
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


@pytest.mark.parametrize(
    ("name", "parts"), [*((name, {}) for name in ANYWHERE), ("tpe", PARTS), ("gp", {"lr*": "qmc"})]
)
def test_a_search_that_was_killed_proposes_as_one_that_was_not(
    name: str, parts: dict[str, str], tmp_path: Path
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        whole = search(optuna.create_study(), name, 12, parts)
        storage = f"sqlite:///{tmp_path / 'study.db'}"
        search(optuna.create_study(study_name="s", storage=storage), name, 8, parts)
        resumed = search(optuna.load_study(study_name="s", storage=storage), name, 12, parts)
    assert resumed == whole
    assert len({str(params) for params in whole}) == 12


@pytest.mark.parametrize(
    ("name", "trials", "parts"),
    [*((name, trials, {}) for name, trials in MODELS.items()), ("tpe", 80, PARTS)],
)
def test_a_model_s_proposals_are_better_than_chance(
    name: str, trials: int, parts: dict[str, str]
) -> None:
    """The mean of the last 15, beside that of random search."""
    means = {}
    for each in (name, "random"):
        study = optuna.create_study()
        search(study, each, trials, parts if each == name else {})
        found = [next(iter(trial.intermediate_values.values())) for trial in study.trials[-15:]]
        means[each] = sum(found) / len(found)
    assert means[name] < 0.75 * means["random"]


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        *((name, {}) for name in ANYWHERE),
        ("tpe", {"*.inner_lr*": "cmaes", "conv.*": "evolution"}),
        ("random", {"conv.*": "grouped_tpe", "maml.*": "gp"}),
    ],
)
def test_every_sampler_serves_a_conditional_space(name: str, parts: dict[str, str]) -> None:
    rates = {"forms": ["product", "entries"], "groups": ["scalar", "layer"]}
    space = {
        "learners": {"maml": {"inner_lr": rates}, "protonet": {}},
        "backbones": {"conv": {"depth": [2, 3]}},
    }
    sampler = {"name": name, "startup_trials": 3, "parts": parts}
    config = parse_config({"space": space, "sampler": sampler})
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


def mean_distance(rates: list[list[float]]) -> float:
    """Of the rates' logarithms from 0."""
    return sum(math.hypot(*map(math.log, each)) / len(each) for each in rates) / len(rates)


def test_each_part_s_sampler_sees_its_own_parameters_of_trials_of_one_structure() -> None:
    """CMA-ES alone would stop at the conditional rates: in a part it proposes them together."""

    def conditional(trial: optuna.Trial) -> float:
        steps = trial.suggest_int("maml.inner_steps", 1, 2)
        rates = [
            trial.suggest_float(f"maml.inner_lr[{step}][{layer}]", 0.01, 1, log=True)
            for step in range(steps)
            for layer in "ab"
        ]
        return sum(math.log(rate) ** 2 for rate in rates) / steps

    config = SamplerConfig(name="random", startup_trials=4, parts={"*.inner_lr*": "cmaes"})
    study = optuna.create_study()
    for number in range(100):
        study.sampler = make_sampler(config, 1, number)
        trial = study.ask()
        study.tell(trial, conditional(trial))
    proposed = [t.params for t in study.trials if "cma:generation" in t.system_attrs]
    assert len(proposed) > 60
    assert {params["maml.inner_steps"] for params in proposed} == {1, 2}
    for steps in (1, 2):
        rates = [list(p.values())[1:] for p in proposed if p["maml.inner_steps"] == steps]
        assert {len(each) for each in rates} == {2 * steps}
        early, late = rates[: len(rates) // 2], rates[len(rates) // 2 :]
        assert mean_distance(late) < mean_distance(early), "it nears rates of 1, one by one"


def family(trial: optuna.Trial) -> None:
    """A choice that decides which others there are."""
    deep = trial.suggest_categorical("deep", [False, True])
    trial.suggest_categorical("a", list(range(8)))
    if deep:
        trial.suggest_categorical("b", list(range(8)))


def evolve(trials: int, seed: int, **options: Any) -> list[dict[str, Any]]:
    """Parameters of a study whose later trials are always better."""
    settings = {"population": 5, "tournament": 5, "crossover": 0.0, "startup": 1} | options
    study = optuna.create_study(direction="maximize")
    for number in range(trials):
        study.sampler = EvolutionSampler(seed * 1000 + number, **settings)
        trial = study.ask()
        family(trial)
        study.tell(trial, number)
    return [trial.params for trial in study.trials]


@pytest.mark.parametrize("seed", range(5))
def test_a_child_is_the_best_of_its_tournament_but_for_one_parameter(seed: int) -> None:
    found = evolve(30, seed)
    switched = 0
    for parent, child in itertools.pairwise(found):
        common = parent.keys() & child.keys()
        changed = [name for name in common if parent[name] != child[name]]
        assert len(changed) == 1 or (not changed and parent["deep"] and child["deep"])
        if changed == ["deep"]:
            switched += 1
            assert ("b" in child) == child["deep"]
    assert switched


def test_the_oldest_die_however_good_they_are() -> None:
    study = optuna.create_study(direction="maximize")
    for number in range(8):
        study.sampler = EvolutionSampler(
            number, population=3, tournament=3, crossover=0.0, startup=1
        )
        trial = study.ask()
        family(trial)
        study.tell(trial, -number)
    # The best of the last three is the oldest of them; the very first was better than all.
    for child, parent in ((7, 4), (6, 3), (5, 2)):
        one, other = study.trials[child].params, study.trials[parent].params
        assert sum(one[name] != other[name] for name in one.keys() & other.keys()) <= 1


def test_crossover_takes_from_two_parents_and_nothing_else() -> None:
    sampler_options = {"population": 2, "tournament": 1, "crossover": 1.0, "startup": 2}
    mixed = 0
    for seed in range(60):
        study = optuna.create_study()
        for value in ("x", "y"):
            choice = optuna.distributions.CategoricalDistribution(["x", "y", "z"])
            genes = {f"g{i}": value for i in range(6)}
            study.add_trial(
                optuna.trial.create_trial(
                    params=genes, distributions=dict.fromkeys(genes, choice), value=0
                )
            )
        study.sampler = EvolutionSampler(seed, **sampler_options)
        trial = study.ask()
        child = [trial.suggest_categorical(f"g{i}", ["x", "y", "z"]) for i in range(6)]
        mutated = child.count("z")
        assert mutated <= 1
        mixed += 1 < child.count("x") < 5 and 1 < child.count("y") < 5
    assert mixed > 10


def test_fitness_is_how_far_a_trial_came_and_then_its_score() -> None:
    def trial(state: TrialState, curve: dict[int, float]) -> Any:
        value = curve[max(curve)] if state == TrialState.COMPLETE else None
        return optuna.trial.create_trial(state=state, value=value, intermediate_values=curve)

    down, up = optuna.study.StudyDirection.MINIMIZE, optuna.study.StudyDirection.MAXIMIZE
    cut, later = trial(TrialState.PRUNED, {10: 0.9}), trial(TrialState.PRUNED, {10: 0.1, 20: 0.2})
    whole, wild = trial(TrialState.COMPLETE, {30: 0.0}), trial(TrialState.PRUNED, {10: math.nan})
    order = [wild, cut, later, whole]
    assert sorted([later, whole, cut, wild], key=lambda each: fitness(each, up)) == order
    better = trial(TrialState.PRUNED, {10: 0.8})
    assert fitness(better, down) > fitness(cut, down)
    assert fitness(better, up) < fitness(cut, up)


def test_the_grid_is_every_point_once() -> None:
    config = SamplerConfig(name="grid")
    study = optuna.create_study()
    for number in range(8 + 64):
        study.sampler = make_sampler(config, 0, number)
        trial = study.ask()
        family(trial)
        study.tell(trial, 0.0)
    points = {tuple(sorted(trial.params.items())) for trial in study.trials}
    assert len(points) == 8 + 64


@pytest.mark.parametrize(
    ("sampler", "message"),
    [
        ({"parts": {"a*": "grid"}}, "grid enumerates a whole space"),
        ({"name": "cmaes", "parts": {"a*": "cmaes"}}, "cmaes keeps one state"),
        ({"parts": {"a*": "tpee"}}, "sampler.parts.a*: sampler 'tpee' is unknown"),
    ],
)
def test_impossible_compositions_are_refused(sampler: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        check_samplers(parse_config({"sampler": sampler}).sampler)


def test_evolution_serves_any_optuna_study() -> None:
    """One sampler from the first trial to the last, as Optuna's own; better than chance."""
    found = {}
    for kind in (EvolutionSampler, optuna.samplers.RandomSampler):
        best = []
        for seed in range(8):
            study = optuna.create_study(sampler=kind(seed=seed))
            study.optimize(loss, n_trials=100)
            best.append(study.best_value)
        found[kind] = sorted(best)[4]
    assert found[EvolutionSampler] < found[optuna.samplers.RandomSampler] / 2


PACKAGE = """
from optuna.samplers import PartialFixedSampler, RandomSampler

def eager(config, seed, number):
    return PartialFixedSampler({"lr[0]": 0.125}, RandomSampler(seed=seed + number))
"""


def test_another_package_brings_a_sampler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "outside_samplers.py").write_text(PACKAGE)
    info = tmp_path / "outside-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: outside\nVersion: 1.0\n")
    points = "[autometa.samplers]\neager = outside_samplers:eager\ngone = outside_samplers:gone\n"
    (info / "entry_points.txt").write_text(points)
    monkeypatch.syspath_prepend(tmp_path)
    fresh = Registry(SAMPLERS.kind, SAMPLERS.group, SAMPLERS.members)
    monkeypatch.setattr("autometa.search.samplers.SAMPLERS", fresh)
    check_samplers(SamplerConfig(name="eager", parts={"choice": "tpe"}))
    params = search(optuna.create_study(), "eager", 4)
    assert [each["lr[0]"] for each in params] == [0.125] * 4
    assert len({each["lr[1]"] for each in params}) == 4
    with pytest.raises(ConfigError, match=r"^sampler.parts.x: sampler 'gone' is registered as"):
        check_samplers(SamplerConfig(parts={"x": "gone"}))
