"""Rounds of rescoring: who stays, what the search's scores were worth, and a whole real search."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ray_warnings import RAY_WARNINGS
from scipy import stats

from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError
from autometa.search import run
from autometa.search.finalists import Run, Standing, prolonged, standing
from autometa.search.folder import StudyFolder
from autometa.search.selection import better, leaders, optimism, runner_up
from autometa.search.study import MAXIMIZE, MINIMIZE
from autometa.trial import TrialSpec

Make = Callable[..., StudyConfig]
SPEC = TrialSpec("maml", {}, "mlp", {}, "sinusoid", {}, {}, 0, 1, 1, 2)
EXPECTED_MAXIMUM = {2: 1 / math.sqrt(math.pi), 3: 1.5 / math.sqrt(math.pi)}
"""Of so many independent standard normals."""


def standing_of(name: str, scores: Any, seconds: float = 0.0) -> Standing:
    values = np.atleast_2d(np.asarray(scores, dtype=np.float64))
    runs = tuple(Run(name, seed, SPEC) for seed in range(1, len(values) + 1))
    return Standing(name, runs, values, seconds)


def near(*means: float) -> dict[str, Standing]:
    """Configurations on eight tasks, whose differences have a standard error of 0.01."""
    wiggle = np.array([1, -1] * 4) * 0.01 * math.sqrt(7) / math.sqrt(2)
    shifts = [wiggle, np.roll(wiggle, 1), wiggle, np.roll(wiggle, 1)]
    return {f"c{i}": standing_of(f"c{i}", m + shifts[i]) for i, m in enumerate(means)}


def test_those_that_the_leader_is_not_surely_better_than_stay() -> None:
    """A difference must be 1.895 standard errors (t of 7 degrees, 95 %) for that."""
    known = near(0.5, 0.5 + 2e-9, 0.5 - 0.03, 0.5 - 0.02)
    errors = {n: better(known["c1"], known[n], MAXIMIZE).error for n in ("c0", "c3")}
    assert errors["c0"] == pytest.approx(0.01 * math.sqrt(2))
    assert errors["c3"] == 0.0, "the same wiggle: they differ by a constant"
    quantile = stats.t.ppf(0.95, 7)
    assert 0.03 > quantile * errors["c0"] > 0.02
    assert leaders(known, MAXIMIZE) == ["c1", "c0"]
    assert leaders(near(0.5, 0.5 - 2e-9, 0.5 + 0.03, 0.5 + 0.02), MINIMIZE) == ["c1", "c0"]
    assert leaders({}, MAXIMIZE) == []


def test_the_runner_up_is_the_best_of_those_that_stayed_longest() -> None:
    known = {
        "short": standing_of("short", [0.9, 0.8]),
        "winner": standing_of("winner", [0.7, 0.7, 0.7]),
        "second": standing_of("second", [0.6, 0.6, 0.6]),
        "third": standing_of("third", [0.5, 0.6, 0.5]),
    }
    assert runner_up(known, "winner", MAXIMIZE) == "second"
    assert runner_up(known, "winner", MINIMIZE) == "third"
    assert runner_up({"winner": known["winner"]}, "winner", MAXIMIZE) is None


def test_further_tasks_are_joined_and_a_failing_seed_drops_out() -> None:
    before = standing_of("c", [[1, 2], [3, 4], [5, 6]], seconds=7.0)
    outcomes = {
        "c-seed1": {"scores": [10, 11], "seconds": 0.0},
        "c-seed2": {"failed": "its predictions aren't finite"},
        "c-seed3": {"scores": [50, 51], "seconds": 0.0},
    }
    failed = {label: {"failed": "no"} for label in outcomes}
    after = prolonged(before, outcomes)
    assert after is not None
    assert [r.seed for r in after.runs] == [1, 3]
    assert after.scores.tolist() == [[1, 2, 10, 11], [5, 6, 50, 51]]
    assert after.seconds == 7.0
    assert after.best_run(MAXIMIZE).seed == 3
    assert after.best_run(MINIMIZE).seed == 1
    assert prolonged(before, failed) is None
    assert standing("c", before.runs, failed) is None


@pytest.mark.parametrize("direction", [MAXIMIZE, MINIMIZE])
@pytest.mark.parametrize("count", [2, 3])
def test_the_best_of_noisy_equals_is_too_good_by_the_expected_maximum(
    count: int, direction: str
) -> None:
    """The winner's optimism is σ·E[max of n]; over all n it is 0; intervals hold the truth."""
    random, sigma, worth = np.random.default_rng(count), 0.04, 0.6
    sign = 1 if direction == MAXIMIZE else -1
    winners, everyone, inside = list[float](), list[float](), list[bool]()
    for _ in range(4000):
        searched = {f"c{i}": worth + random.normal(0, sigma) for i in range(count)}
        hard = random.normal(0, 0.1, 50)
        fresh = {
            name: standing_of(name, worth + hard + random.normal(0, 0.05, (1, 50)))
            for name in searched
        }
        best = max(searched, key=lambda name: sign * searched[name])
        found = optimism({best: searched[best]}, fresh, direction)
        winners.append(found.mean)
        everyone.append(optimism(searched, fresh, direction).mean)
        inside.append(abs(found.mean - sign * (searched[best] - worth)) <= found.ci95)
    assert np.mean(winners) == pytest.approx(sigma * EXPECTED_MAXIMUM[count], abs=0.002)
    assert np.mean(everyone) == pytest.approx(0.0, abs=0.002)
    assert np.mean(inside) == pytest.approx(0.95, abs=0.015)


def test_max_tasks_below_the_first_round_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"finalists\.max_tasks is 20, but must be at least .*30"):
        parse_config({"finalists": {"tasks": 30, "max_tasks": 20}})
    assert parse_config({"finalists": {"tasks": 30}}).finalists.most_tasks == 120


FILES = ("finalists", "round-2", "round-3", "confirmation", "meta-test")


@pytest.fixture(scope="module")
def ended(ray_here: None, small_in: Make, tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A search whose three finalists can't be told apart on 20 tasks of sinusoids."""
    over = {
        "space": {"learners": {"maml": {"inner_lr": {"low": 0.01, "high": 0.012}}}},
        "scheduler": {"name": "none"},
        "finalists": {"count": 3, "seeds": 1, "tasks": 20, "max_tasks": 60},
    }
    return run.search(small_in(tmp_path_factory.mktemp("selection"), **over))


def kept(folder: StudyFolder, name: str) -> dict[str, list[float]]:
    """Step → scores of the tasks of a configuration's one run."""
    paths = {step: folder.finalist(f"{step}-{name}-seed1") for step in FILES}
    return {s: json.loads(p.read_text())["scores"] for s, p in paths.items() if p.exists()}


@pytest.mark.usefixtures("ray_here")
class TestSearch:
    """One real search, looked at from several sides."""

    pytestmark = RAY_WARNINGS

    def test_every_round_has_fresh_tasks_twice_as_many_in_all(self, ended: StudyFolder) -> None:
        result = ended.read_result()
        assert result is not None
        rounds = result["selection"]["rounds"]
        assert len(rounds) > 1, "these finalists can't be told apart at once"
        assert [each["tasks"] for each in rounds] == [20, 20, 20][: len(rounds)]
        for index, each in enumerate(rounds):
            for name in each["names"]:
                scores = kept(ended, name)
                assert len(scores[FILES[index]]) == each["tasks"]
        seen = kept(ended, result["winner"]["name"])
        streams = {tuple(scores[:5]) for scores in seen.values()}
        assert len(streams) == len(seen) >= 4, "no two steps have the same tasks"

    def test_the_winner_is_the_best_of_the_last_round(self, ended: StudyFolder) -> None:
        result = ended.read_result()
        assert result is not None
        last = result["selection"]["rounds"][-1]["names"]
        means = {
            name: np.mean([s for step in FILES[:3] for s in kept(ended, name).get(step, [])])
            for name in last
        }
        winner = result["winner"]
        assert winner["name"] == min(means, key=lambda name: means[name])
        assert winner["rescored"]["mean"] == pytest.approx(means[winner["name"]])
        confirmed = np.mean(kept(ended, winner["name"])["confirmation"])
        assert winner["confirmed"]["mean"] == pytest.approx(confirmed)
        optimism = result["selection"]["optimism"]["winner"]["mean"]
        assert optimism == pytest.approx(confirmed - winner["search_score"]), "MSE: lower is better"

    def test_the_probability_is_that_of_a_paired_t_test(self, ended: StudyFolder) -> None:
        result = ended.read_result()
        assert result is not None
        other, names = result["selection"]["runner_up"], [result["winner"]["name"]]
        pair = []
        for name in [*names, other["name"]]:
            pair.append([s for step in FILES[:3] for s in kept(ended, name).get(step, [])])
        tasks = min(map(len, pair))
        test = stats.ttest_rel(pair[0][:tasks], pair[1][:tasks], alternative="less")
        assert other["tasks"] == tasks
        assert other["probability"] == pytest.approx(1 - test.pvalue)

    def test_a_search_that_died_in_a_round_ends_with_the_same_result(
        self, ended: StudyFolder
    ) -> None:
        before = ended.read_result()
        assert before is not None
        ended.result.unlink()
        gone = [*ended.path.glob("finalists/round-*"), *ended.path.glob("finalists/meta-test-*")]
        stay = [path for path in ended.path.glob("finalists/*") if path not in gone]
        times = {path: path.stat().st_mtime_ns for path in stay}
        for path in gone:
            path.unlink()
        run.resume(Path(ended.path))
        after = ended.read_result()
        assert after is not None
        assert {k: v for k, v in after.items() if k != "cost"} == {
            k: v for k, v in before.items() if k != "cost"
        }
        assert {path: path.stat().st_mtime_ns for path in stay} == times

    def test_the_result_stays_small(self, ended: StudyFolder) -> None:
        assert "scores" not in ended.result.read_text()
        assert ended.result.stat().st_size < 12_000
