"""A search with two objectives by the command, and what ``export --pick`` takes from it."""

from __future__ import annotations

import csv
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from ray_warnings import RAY_WARNINGS
from safetensors.torch import load_file

from autometa import load_bundle
from autometa.trial import load_params

Command = Callable[..., Any]
Study = tuple[Path, str]
pytestmark = RAY_WARNINGS

TWO = {
    "objectives: [mse, parameters]\nbudget: {trials: 8, iterations: 8}": r"budget: \{.*\}",
    "sampler: {name: random}\nscheduler: {name: none}": r"scheduler: \{.*\}",
    "finalists: {count: 2, seeds: 2, tasks: 60, max_tasks: 60}": r"finalists: \{.*\}",
    'backbones: {mlp: {depth: [1, 2, 3], "*/width": [20, 40, 64]}}': r"backbones: \{.*\}",
}


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory, small_yaml: str) -> Study:
    """The study, and what the command printed."""
    place, text = tmp_path_factory.mktemp("pick"), small_yaml
    for line, pattern in TWO.items():
        text, count = re.subn(pattern, line, text)
        assert count == 1
    (place / "two.yaml").write_text(text)
    command = [str(Path(sys.executable).parent / "autometa"), "search", "two.yaml"]
    ended = subprocess.run(
        [*command, "--out", "study", "--seed", "7"],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=place,
    )
    assert ended.returncode == 0, ended.stderr
    return place / "study", ended.stdout


def result_of(study: Path) -> dict[str, Any]:
    result: dict[str, Any] = json.loads((study / "result.json").read_text())
    return result


def trials_of(study: Path) -> dict[str, tuple[float, int]]:
    """Name → score and parameters, from ``trials.csv``."""
    with (study / "trials.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["end"] == "complete"]
    return {row["name"]: (float(row["score"]), int(row["parameters"])) for row in rows}


def front_of(trials: dict[str, tuple[float, int]]) -> set[str]:
    """Those that no other one beats, one by one."""
    return {
        name
        for name, (score, size) in trials.items()
        if not any(s <= score and p <= size and (s, p) != (score, size) for s, p in trials.values())
    }


def test_the_front_is_in_the_result_the_report_and_the_summary(searched: Study) -> None:
    study, out = searched
    trials, result = trials_of(study), result_of(study)
    assert len(trials) == 8
    front = front_of(trials)
    assert {each["name"]: tuple(each["values"].values()) for each in result["front"]} == {
        name: pytest.approx(trials[name]) for name in front
    }
    finalists = {each["name"] for each in result["finalists"]}
    assert finalists == {each["name"] for each in result["front"] if each["finalist"]}
    best, smallest = (min(front, key=lambda name: trials[name][i]) for i in (0, 1))
    assert finalists == {best, smallest}, "the best score, and the other end of the front"
    assert f"Front of mse and parameters: {len(front)} trial" in out
    page = (study / "report.html").read_text()
    table = page.split('<section id="front-table"')[1].split("</section>")[0]
    assert set(re.findall(r'<th scope="row">([\w-]+)</th>', table)) == front
    assert "are on the front of mse and parameters" in page


def exported(autometa: Command, study: Path, rule: str, to: Path) -> tuple[dict[str, Any], str]:
    """``results.json`` and the card of what a rule picks."""
    ended = autometa("export", study, "--pick", rule, "--to", to)
    assert (ended.code, ended.err) == (0, "")
    results: dict[str, Any] = json.loads((to / "results.json").read_text())
    card = (to / "README.md").read_text()
    assert f"Picked by `{rule}`" in card
    assert results["picked"]["picked"] == rule
    predict = load_bundle(to).adapt(torch.zeros(10, 1), torch.zeros(10, 1))
    assert predict(torch.zeros(3, 1)).isfinite().all()
    weights = load_file(to / "weights.safetensors")
    expected = load_params(study / results["picked"]["checkpoint"])
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[name], expected[name]) for name in weights)
    return results, card


def test_the_best_is_the_winner_with_its_meta_test(
    autometa: Command, searched: Study, tmp_path: Path
) -> None:
    study, _ = searched
    results, card = exported(autometa, study, "best", tmp_path / "best")
    assert results["picked"] == result_of(study)["winner"] | {"picked": "best"}
    assert re.search(r"\| meta-test mse \| [\d.]+ ± [\d.]+ \(20 tasks\) \|", card)


def test_a_finalist_that_is_picked_was_rescored_but_not_tested(
    autometa: Command, searched: Study, tmp_path: Path
) -> None:
    study, _ = searched
    result = result_of(study)
    other = next(e for e in result["finalists"] if e["name"] != result["winner"]["name"])
    trials = trials_of(study)
    assert trials[other["name"]][1] < trials[result["winner"]["name"]][1]
    rule = f"best under {trials[other['name']][1] + 1} parameters"
    results, card = exported(autometa, study, rule, tmp_path / "other")
    picked = results["picked"]
    assert picked["name"] == other["name"]
    assert picked["rescored"] == other["rescored"]
    assert (picked["test"], picked["confirmed"]) == (None, None)
    seeds = other["rescored"]["seeds"]
    assert seeds[str(picked["exported_seed"])] == min(seeds.values())
    assert "| meta-test mse | not tested |" in card
    assert "it isn't the search's winner, which alone met meta-test" in card


def test_another_trial_that_is_picked_has_the_weights_of_the_search(
    autometa: Command, searched: Study, tmp_path: Path
) -> None:
    study, _ = searched
    trials, result = trials_of(study), result_of(study)
    name = next(each["name"] for each in result["front"] if not each["finalist"])
    rule = f"best under {trials[name][1] + 1} parameters"
    results, card = exported(autometa, study, rule, tmp_path / "third")
    picked = results["picked"]
    assert picked["name"] == name
    assert picked["search_score"] == pytest.approx(trials[name][0])
    assert (picked["rescored"], picked["test"]) == (None, None)
    assert picked["exported_seed"] == 7, "the search's own"
    assert "| meta-validation mse | not rescored |" in card
    assert "The weights are those of the search, trained with one seed." in card


@pytest.mark.parametrize(
    ("rule", "match"),
    [
        ("the best", "--pick 'the best' is no rule: write 'best'"),
        ("best under 1 parameters", r"no complete trial of this study is under 1 parameters"),
        ("best under 5 ms", "this study didn't measure it: search with 'adaptation' among"),
        ("smallest within 1 point", "an error has per cent, so write 'smallest within 5 %'"),
    ],
)
def test_a_rule_that_picks_nothing_is_one_clear_error(
    autometa: Command, searched: Study, tmp_path: Path, rule: str, match: str
) -> None:
    ended = autometa("export", searched[0], "--pick", rule, "--to", tmp_path / "none")
    assert ended.code == 2
    assert re.fullmatch(rf"error: .*{match}.*\n", ended.err), ended.err
    assert not (tmp_path / "none").exists()
