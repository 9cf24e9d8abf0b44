"""The comparison of warm starts: its counting by hand, and whole searches on a small table."""

from __future__ import annotations

import gzip
import json
import math
from dataclasses import asdict
from pathlib import Path
from typing import Any

import optuna
import pytest

from autometa.bench import warm
from autometa.bench.alike import alike
from autometa.bench.records import ABOUT, Record, save_records
from autometa.bench.warm_table import cells, markdown, summarised
from autometa.config import parse_config
from autometa.errors import ConfigError
from autometa.search.folder import write_json
from autometa.search.samplers import make_sampler
from autometa.search.space import build_space

LEARNERS = {"protonet": {}, "maml": {"inner_lr": {"forms": ["entries"], "groups": ["layer"]}}}
SPACE: dict[str, Any] = {"learners": LEARNERS, "backbones": {"conv": {"depth": [2, 3]}}}


def test_trials_are_counted_until_the_mean_is_a_cold_search_s() -> None:
    found = {
        "earlier | b": [[0.0, 0.7], [0.0, 0.5]],  # 0.6 at the end
        "cold | b": [[0.1, 0.4, 0.7, 0.8], [0.3, 0.2, 0.5, 0.9]],  # means 0.2, 0.3, 0.6, 0.85
        "warm | a | b": [[0.6, 0.6], [0.5, 0.6]],  # 0.55, 0.6
        "misled | a | b": [[0.1, 0.2, 0.5, 0.5], [0.1, 0.2, 0.3, 0.6]],
    }
    row, everything = summarised(found, trials=2)
    assert (row["earlier"], row["new"], row["score"][0]) == ("a", "b", pytest.approx(0.6))
    assert row["score"][1] == pytest.approx(1.96 * 0.1)  # of two, half their distance
    assert [row[kind][0] for kind in ("cold", "warm", "misled")] == [3, 2, math.inf]
    # Drawn twice, the first seed's searches: 0.7 is never reached; the second's: 0.5 at once.
    assert row["warm"][1:] == [1, math.inf]
    # Against the same seeds' 0.4 and 0.2: warm ones after one trial, misled ones after two.
    assert row["half"] == [pytest.approx(0.25), pytest.approx(1.96 * 0.05)]
    assert row["more"] == [pytest.approx(-0.1), pytest.approx(1.96 * 0.1)]
    assert cells(row)[2:5] == ("60.0 ± 19.6 %", "3 (3 to 3)", "2 (1 to never)")
    assert cells(row)[6:] == ("+25.0 ± 9.8", "-10.0 ± 19.6")
    assert {**everything, "earlier": "a", "new": "b"} == row, "one start is all of them"
    assert len(markdown([row, everything]).splitlines()) == 4


def test_all_starts_together_are_their_mean_course() -> None:
    courses = {"earlier": [0.6, 0.6], "cold": [0.2, 0.6], "misled": [0.1, 0.5]}
    found = {f"{kind} | b": [course] * 2 for kind, course in courses.items()}
    found = {key: found[key] for key in ("earlier | b", "cold | b")}
    for source, warm_course in (("a", [0.9, 0.9]), ("c", [0.4, 0.5])):
        found[f"warm | {source} | b"] = [warm_course] * 2
        found[f"misled | {source} | b"] = [courses["misled"]] * 2
    rows = summarised(found, trials=2)
    assert [row["warm"][0] for row in rows] == [1, math.inf, 1]
    assert rows[2]["half"][0] == pytest.approx((0.9 + 0.4) / 2 - 0.6)


def test_networks_of_equal_layers_are_built_once_and_propose_the_same() -> None:
    config = parse_config({"space": SPACE})
    space = build_space(config.space, (1, 14, 14), "classification")
    quick = alike(space)
    for seed in range(6):
        seen = []
        for each in (space, quick):
            study = optuna.create_study(sampler=make_sampler(config.sampler, seed, 0))
            trial = study.ask()
            candidate = each.sample(trial)
            seen.append((trial.params, candidate.hyper, candidate.architecture))
        assert seen[0] == seen[1]


@pytest.fixture(scope="module")
def tables(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two tables of a space of one learner, whose scores come from a formula."""

    place = tmp_path_factory.mktemp("tables")
    backbone = {"depth": [2], "width": [16], "*/kernel": 3, "*/operator": "conv"}
    given = {"learners": {"protonet": {"augment": "none"}}, "backbones": {"conv": backbone}}
    space = alike(build_space(parse_config({"space": given}).space, (1, 14, 14), "classification"))
    folders = []
    for name, goal in (("a", -2.0), ("b", -2.2)):
        records = []
        for number in range(40):
            study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
            trial = study.ask()
            candidate = space.sample(trial)
            score = 0.9 - 0.1 * abs(math.log10(candidate.hyper["meta_lr"]) - goal)
            curve = ((9, 18), (score / 2, score), (0.01, 0.01), (1.0, 2.0))
            params = dict(trial.params)
            each = ("random", 0, params, asdict(candidate), "complete")
            records.append(Record(number, *each, *curve))
        folder = place / name
        folder.mkdir()
        save_records(folder, records)
        about = {"space": given, "task": {}, "iterations": 18, "input_shape": [1, 14, 14]}
        about |= {"validation": {"every": 9, "tasks": 10}, "direction": "maximize"}
        write_json(folder / ABOUT, about)
        folders.append(folder)
    return folders


def test_every_start_is_searched_with_every_seed(
    tables: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, trials in (("TRIALS", 6), ("EARLIER", 12), ("LONGER", 9)):
        monkeypatch.setattr(warm, name, trials)
    found = warm.searches(tables, 0)
    lengths = {key: len(course) for key, course in found.items()}
    assert lengths == {
        "earlier | a": 12,
        "cold | a": 9,
        "earlier | b": 12,
        "cold | b": 9,
        "warm | a | b": 6,
        "warm | b | a": 6,
        "misled | a | b": 9,
        "misled | b | a": 9,
    }
    assert found == warm.searches(tables, 0), "a seed decides everything"
    assert found != warm.searches(tables, 1)
    apart = warm.searches(tables, warm.APART)
    assert apart["cold | a"] == found["earlier | a"][:9], "an earlier study has its own seed"
    assert all(0.5 < score < 1 for course in found.values() for score in course)


def test_what_is_written_is_what_is_shown(tables: list[Path], tmp_path: Path) -> None:
    heard: list[str] = []
    options: dict[str, Any] = {"out": tmp_path, "concurrency": 1, "notify": heard.append}
    rows = warm.compare(tables, seeds=2, first_seed=7, **options)
    written = json.loads(gzip.decompress((tmp_path / "warm_start.json.gz").read_bytes()))
    assert len(heard) == 2
    assert written["configurations"] == {"a": 40, "b": 40}
    assert written["first_seed"] == 7
    for number, seed in enumerate((7, 8)):
        one = warm.searches(tables, seed)
        assert {key: each[number] for key, each in written["scores"].items()} == one
    assert summarised(written["scores"], warm.TRIALS) == rows
    assert (tmp_path / "warm_start.md").read_text() == markdown(rows)
    assert [(row["earlier"], row["new"]) for row in rows[:-1]] == [("b", "a"), ("a", "b")]


def test_one_table_is_no_comparison(tables: list[Path], tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="at least two tables of different names"):
        warm.compare(tables[:1], seeds=2, first_seed=0, out=tmp_path, concurrency=1, notify=print)
