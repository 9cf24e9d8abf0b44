"""Searches that start from earlier studies: what is taken over, and when it stops."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from random import Random
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import RandomSampler
from optuna.study import StudyDirection
from optuna.trial import TrialState
from ray_warnings import RAY_WARNINGS

from autometa.config import SamplerConfig, StudyConfig, parse_config
from autometa.errors import ConfigError, StudyError
from autometa.search import run
from autometa.search.earlier import (
    EarlierStudy,
    EarlierTrial,
    fitting,
    kept_earlier,
    ranked,
    read_earlier,
    to_text,
)
from autometa.search.events import Interrupted, TrialEnded
from autometa.search.folder import create_folder
from autometa.search.samplers import make_sampler
from autometa.search.space import SearchSpace, build_space
from autometa.search.study import (
    COMPLETE,
    CURVE,
    DIVERGED,
    FAILED,
    PRUNED,
    REJECTED,
    create_study,
    end_trial,
    load_optuna_study,
    rows_of,
    storage_of,
)
from autometa.search.transfer import PORTFOLIO, TRANSFERRED, Transfer, portfolio

Make = Callable[..., StudyConfig]
pytestmark = RAY_WARNINGS
ENDS = (COMPLETE, PRUNED, COMPLETE, DIVERGED, COMPLETE, FAILED, REJECTED, COMPLETE)


def space_of(config: StudyConfig) -> SearchSpace:
    return build_space(config.space, (1,), "regression")


def written(config: StudyConfig, ends: tuple[str, ...] = ENDS) -> list[dict[str, Any]]:
    """A study on disk with a trial for each end, whose error is its number; the candidates."""
    create_folder(config, {"name": "sinusoid", "fingerprint": "0"})
    study = create_study(config, storage_of(config), "minimize")
    space, found = space_of(config), []
    for number, end in enumerate(ends):
        study.sampler = RandomSampler(seed=number)
        trial = study.ask()
        candidate = asdict(space.sample(trial))
        trial.set_user_attr("candidate", candidate)
        if end in (COMPLETE, PRUNED):
            step = 8 if end == COMPLETE else 4
            if config.several:  # for which Optuna keeps no curves
                trial.set_user_attr(CURVE, [[step, float(number)]])
            else:
                trial.report(float(number), step)
        end_trial(trial, end)
        found.append(candidate)
    return found


@pytest.mark.parametrize("objectives", [[], ["mse", "parameters"]])
def test_trials_are_ranked_within_their_study(small: Make, objectives: list[str]) -> None:
    """Errors are their numbers: complete ones first, then what was cut, then what diverged."""
    config = small(objectives=objectives)
    candidates = written(config)
    new = small(warm_start=[str(config.folder)], out=str(config.folder.parent / "new"))
    (study,) = read_earlier(new, space_of(new))
    assert [trial.rank for trial in study.trials] == [
        pytest.approx(worse / 6 + 1 / 12) for worse in (5, 1, 4, 0, 3, 2)
    ]
    first = study.trials[0].values
    assert first["maml.inner_steps"] == candidates[0]["hyper"]["inner_steps"]
    assert first["maml.inner_lr.mode"] == candidates[0]["hyper"]["inner_lr"]["mode"]
    assert (first["learner"], first["backbone"]) == ("maml", "mlp"), "fixed there, needed here"
    assert first["mlp.depth"] == candidates[0]["architecture"]["depth"]


def test_what_is_kept_is_what_was_read(small: Make) -> None:
    earlier = small()
    written(earlier)
    new = small(warm_start=[str(earlier.folder)], out=str(earlier.folder.parent / "new"))
    studies = read_earlier(new, space_of(new))
    create_folder(new, {"name": "sinusoid", "fingerprint": "0"}, to_text(studies))
    shutil.rmtree(earlier.folder)
    assert kept_earlier(new) == studies
    (new.folder / "earlier.json").write_text('[{"name": 3}]')
    with pytest.raises(StudyError, match=r"earlier.json is missing or damaged"):
        kept_earlier(new)


def test_earlier_studies_that_teach_nothing_are_refused(small: Make, tmp_path: Path) -> None:
    cut = small(out=str(tmp_path / "cut"))
    written(cut, (PRUNED, FAILED))
    new = small(warm_start=[str(cut.folder)])
    with pytest.raises(StudyError, match="cut' has no complete trial to learn from"):
        read_earlier(new, space_of(new))
    other = small(out=str(tmp_path / "other"))
    written(other)
    everything = small(space={"backbones": {"mlp": {}}})
    first = {
        label: each[0] for label, each in space_of(everything).backbones["mlp"].options.items()
    }
    space = {"learners": {"cnp": {}}, "backbones": {"mlp": first}}
    strange = parse_config({"space": space, "warm_start": [other.folder]})
    with pytest.raises(ConfigError, match="other' has nothing in common with this search space"):
        read_earlier(strange, space_of(strange))


def test_several_objectives_are_refused() -> None:
    with pytest.raises(ConfigError, match="warm_start serves one objective: remove it"):
        parse_config({"objectives": ["accuracy", "macs"], "warm_start": ["a"]})


def test_a_grid_needs_no_earlier_study() -> None:
    with pytest.raises(ConfigError, match="'grid', which tries every point: remove warm_start"):
        parse_config({"sampler": {"name": "grid"}, "warm_start": ["a"]})


numbers = st.one_of(st.integers(-50, 50), st.floats(-50, 50))
values = st.one_of(numbers, st.booleans(), st.sampled_from(["a", "b", "c"]))


@st.composite
def domains(draw: st.DrawFn) -> BaseDistribution:
    kind = draw(st.sampled_from(["float", "int", "choice"]))
    if kind == "choice":
        return CategoricalDistribution(draw(st.lists(values, min_size=2, max_size=5)))
    low, size, log = draw(st.integers(1, 9)), draw(st.integers(1, 30)), draw(st.booleans())
    if kind == "float":
        return FloatDistribution(low / 7, low / 7 + size, log=log)
    step = 1 if log else draw(st.integers(1, 4))
    return IntDistribution(low, low + size * step, log=log, step=step)


@given(values, domains())
def test_a_value_fits_its_new_domain_or_is_left_out(value: Any, domain: Any) -> None:
    found = fitting(value, domain)
    assert all(domain._contains(domain.to_internal_repr(each)) for each in found)
    if isinstance(domain, CategoricalDistribution):
        alike = [c for c in domain.choices if _told(c) == _told(value)]
        assert [_told(each) for each in found] == [_told(each) for each in alike[:1]]
    elif isinstance(value, bool | str):
        assert found == []
    else:
        held = min(max(value, domain.low), domain.high)
        step = domain.step if isinstance(domain, IntDistribution) else 0
        assert abs(found[0] - held) <= step / 2


def _told(value: Any) -> str:
    """A text that is the same for 1 and 1.0, but not for True."""
    if isinstance(value, bool):
        return repr(value)
    return str(0.0 + value) if isinstance(value, int | float) else repr(value)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.dictionaries(st.sampled_from("abcdef"), domains(), min_size=1))
def test_any_space_can_be_searched_from_any_other(seed: int, names: dict[str, Any]) -> None:
    """The first proposal is the earlier best wherever it fits, and lies in the space anywhere."""
    random = Random(seed)
    pool = [1, 7, 2.5, True, "a", -40.0]
    best = {name: random.choice(pool) for name in "abcd"}
    studies = [EarlierStudy("x", (EarlierTrial(0.25, {"a": 1, "z": 2}), EarlierTrial(0.75, best)))]
    study = optuna.create_study()
    own = make_sampler(SamplerConfig(), seed, 0)
    study.sampler = Transfer(studies).sampler(study, _transferring(studies), 0, own)
    trial = study.ask()
    for name, domain in names.items():
        value = trial._suggest(name, domain)
        fits = fitting(best[name], domain) if name in best else []
        assert domain._contains(domain.to_internal_repr(value))
        assert not fits or value == fits[0]


def _transferring(studies: list[EarlierStudy]) -> int:
    """A seed whose first proposal is transferred."""
    study, own = optuna.create_study(), RandomSampler()
    transfer = Transfer(studies)
    return next(s for s in range(99) if transfer.sampler(study, s, 0, own) is not own)


def test_the_portfolio_takes_the_best_of_each_study_in_turn() -> None:
    def study(name: str, *ranks: float) -> EarlierStudy:
        return EarlierStudy(name, tuple(EarlierTrial(r, {name: r}) for r in ranks))

    same = EarlierStudy("c", (EarlierTrial(0.9, {"a": 0.9}),))
    found = portfolio([study("a", 0.1, 0.9, 0.5), study("b", 0.8), same])
    assert [trial.values for trial in found] == [{"a": 0.9}, {"b": 0.8}, {"a": 0.5}, {"a": 0.1}]
    assert len(portfolio([study("a", *(n / 20 for n in range(20)))])) == PORTFOLIO


def error(trial: optuna.Trial, goal: float) -> float:
    """A conditional function, least for "deep" with both rates at the goal."""
    deep = trial.suggest_categorical("net", ["flat", "deep"]) == "deep"
    rates = [trial.suggest_float(f"lr{i}", 1e-4, 1.0, log=True) for i in range(1 + deep)]
    far = sum(abs(math.log10(rate / goal)) for rate in rates) / len(rates)
    return far + (0 if deep else 1)


def search(
    study: optuna.Study, trials: int, studies: list[EarlierStudy], seed: int = 0, goal: float = 0.01
) -> list[optuna.trial.FrozenTrial]:
    """Go on until there are so many trials, as the searcher does; what is far off is cut."""
    transfer = Transfer(studies)
    for number in range(len(study.trials), trials):
        own = make_sampler(SamplerConfig(startup_trials=6), seed, number)
        study.sampler = transfer.sampler(study, seed, number, own)
        trial = study.ask()
        if study.sampler is not own:
            trial.set_user_attr(TRANSFERRED, True)
        value = error(trial, goal)
        trial.set_user_attr("candidate", CANDIDATE)
        trial.report(value, 1)
        cut: dict[str, Any] = {"state": TrialState.PRUNED} if value > 2 else {"values": value}
        study.tell(trial, **cut)
    return study.trials


CANDIDATE = {"learner": "l", "backbone": "b", "hyper": {}, "architecture": {}}


def earlier_search(direction: StudyDirection, goal: float = 0.01) -> list[EarlierStudy]:
    """A study of forty trials; where errors are maximised its worst trials are recommended."""
    trials = search(optuna.create_study(), 40, [], seed=9, goal=goal)
    return [ranked("earlier", trials, direction)]


def errors(trials: list[optuna.trial.FrozenTrial]) -> list[float]:
    return [next(iter(trial.intermediate_values.values())) for trial in trials]


def shares(trials: list[optuna.trial.FrozenTrial]) -> list[bool]:
    return [TRANSFERRED in trial.user_attrs for trial in trials]


@pytest.mark.parametrize("goal", [0.01, 0.02])
def test_a_study_on_a_similar_task_gives_a_good_start(goal: float) -> None:
    good = earlier_search(StudyDirection.MINIMIZE)
    warm = [search(optuna.create_study(), 20, good, seed, goal) for seed in range(10)]
    cold = [search(optuna.create_study(), 20, [], seed, goal) for seed in range(10)]
    assert sum(map(sum, map(errors, warm))) < 0.8 * sum(map(sum, map(errors, cold)))
    halfway = [min(errors(trials)[:10]) for trials in warm]
    assert sum(halfway) < sum(min(errors(trials)) for trials in cold), "in half the trials"
    assert sum(map(sum, map(shares, warm))) > 90, "about half of the proposals"
    assert not any(shares(trials)[1] for trials in warm), "one is for comparison"


def test_a_study_that_misleads_is_given_up() -> None:
    bad = earlier_search(StudyDirection.MAXIMIZE)
    lost, taken = [], []
    for seed in range(12):
        misled = search(optuna.create_study(), 30, bad, seed)
        taken.append(sum(shares(misled)))
        assert not any(shares(misled)[10:])
        cold = search(optuna.create_study(), 30, [], seed)
        lost.append(min(errors(misled)) - min(errors(cold)))
        advised = [e for e, t in zip(errors(misled), shares(misled), strict=True) if t]
        assert not advised or min(advised) > 1, "it was bad advice"
    assert sum(taken) / len(taken) < 2, "of thirty proposals"
    assert sum(lost) / len(lost) < 0.1


def test_of_two_studies_the_one_that_misleads_is_given_up() -> None:
    both = earlier_search(StudyDirection.MINIMIZE) + earlier_search(StudyDirection.MAXIMIZE)
    kept = []
    for seed in range(10):
        trials = search(optuna.create_study(), 30, both, seed)[10:]
        kept += [e for e, t in zip(errors(trials), shares(trials), strict=True) if t]
    assert len(kept) > 60, "the other goes on, with a third of the proposals and more"
    assert sum(error < 1 for error in kept) > 0.8 * len(kept), "and gives good advice"


def test_a_search_that_was_killed_proposes_as_one_that_was_not(tmp_path: Path) -> None:
    studies = earlier_search(StudyDirection.MINIMIZE)
    whole = search(optuna.create_study(), 24, studies)
    storage = f"sqlite:///{tmp_path / 'study.db'}"
    search(optuna.create_study(study_name="s", storage=storage), 9, studies)
    kept = list(json.loads(to_text(studies)))
    again = [
        EarlierStudy(each["name"], tuple(EarlierTrial(**trial) for trial in each["trials"]))
        for each in kept
    ]
    resumed = search(optuna.load_study(study_name="s", storage=storage), 24, again)
    assert [trial.params for trial in resumed] == [trial.params for trial in whole]
    assert shares(resumed) == shares(whole)


@pytest.mark.usefixtures("wide_ray_here")
def test_a_warm_search_goes_on_without_the_earlier_folders(small: Make, tmp_path: Path) -> None:
    """On real Ray: interrupted and resumed it is the search that nothing happened to."""
    earlier = small(out=str(tmp_path / "earlier"))
    written(earlier)
    options: dict[str, Any] = {
        "warm_start": [str(earlier.folder)],
        "finalists": {"count": 1, "seeds": 1},
        "baseline": None,
    }
    whole = small(out=str(tmp_path / "whole"), **options)
    run.search(whole)
    ended = []

    def stop(event: Any) -> None:
        ended.extend([event] if isinstance(event, TrialEnded) else [])
        if len(ended) == 3:
            raise KeyboardInterrupt

    halted = small(out=str(tmp_path / "halted"), **options)
    with pytest.raises(Interrupted):
        run.search(halted, stop)
    shutil.rmtree(earlier.folder)
    run.resume(halted.folder)
    one, other = (
        [(t.params, t.curve, t.end) for t in rows_of(load_optuna_study(config))]
        for config in (whole, halted)
    )
    assert one == other
    trials = load_optuna_study(halted).get_trials()
    assert any(shares(trials)), "some are transferred"
