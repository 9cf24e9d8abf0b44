"""What the documents say is true: the example learner satisfies the contract, commands exist."""

from __future__ import annotations

import gzip
import json
import math
import re
import shlex
import sys
from pathlib import Path
from statistics import fmean
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import typer
from scipy.stats import kendalltau

from autometa.bench.regret import MARKS
from autometa.bench.regret import summarised as searches
from autometa.bench.search import methods
from autometa.bench.warm import TRIALS
from autometa.bench.warm_table import markdown, summarised
from autometa.cli import app
from autometa.config import load_config, shipped_spaces
from autometa.learners import LEARNERS
from autometa.report.text import percent
from autometa.testing.learners import LearnerTestCase

ROOT = Path(__file__).parents[1]
NAME = "autometa.learners.mine"


def blocks(document: str, language: str) -> list[str]:
    """The fenced blocks of a document in the checkout."""
    text = (ROOT / document).read_text(encoding="utf-8")
    fenced = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    return [body for name, body in fenced if name == language]


def example_learner() -> Any:
    """The class ``Mine`` of CONTRIBUTING.md, as a file beside the other learners would give it."""
    source = next(block for block in blocks("CONTRIBUTING.md", "python") if "class Mine(" in block)
    module = sys.modules[NAME] = ModuleType(NAME)
    module.__package__ = "autometa.learners"
    exec(source, vars(module))
    return module.Mine


class TestExampleLearner(LearnerTestCase):
    learner = example_learner()
    label_symmetric = True


def commands(document: str) -> list[list[str]]:
    """Every ``autometa …`` line in the shell blocks of a document, without comments."""
    lines = "\n".join(blocks(document, "")).replace("\\\n", " ").splitlines()
    split = [shlex.split(line, comments=True) for line in lines]
    return [words[1:] for words in split if words and Path(words[0]).name == "autometa"]


@pytest.mark.parametrize("words", commands("README.md"), ids=" ".join)
def test_commands_in_the_readme_can_be_parsed(words: list[str]) -> None:
    command = typer.main.get_command(app)
    while isinstance(command, typer.core.TyperGroup):
        command = command.commands[words[0]]
        words = words[1:]
    context = command.make_context(str(command.name), list(words))
    assert context.args == [], "arguments that the command doesn't take"
    given = [value for value in context.params.values() if value not in (None, False, [])]
    assert bool(given) == bool(words), "what was written must reach the command"


@pytest.mark.parametrize("name", shipped_spaces())
def test_every_shipped_space_is_a_valid_configuration(name: str) -> None:
    config = load_config(name)
    assert config.name == name


@pytest.mark.parametrize("document", ["README.md", "CONTRIBUTING.md", "trials/README.md"])
def test_files_that_the_documents_name_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)\)", text)
    missing = [link for link in links if not (ROOT / document).parent.joinpath(link).exists()]
    assert not missing


def test_make_help_has_a_line_for_every_target() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = re.search(r"^\.PHONY: (.*)$", text, flags=re.M)
    assert targets is not None
    for target in targets[1].split():
        assert re.search(rf"^{target}:.*  ## .+$", text, flags=re.M), f"{target} has no help"


def measured(name: str) -> dict[str, Any]:
    """The committed comparison of the learners on a data set."""
    path = ROOT / "trials" / "reference" / "learners" / name / "learners.json"
    result: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return result


@pytest.mark.parametrize(
    "path", sorted((ROOT / "trials" / "reference").glob("*/warm_start.json.gz")), ids=str
)
def test_warm_starts_in_the_readme_are_the_committed_ones(path: Path) -> None:
    scores = json.loads(gzip.decompress(path.read_bytes()))["scores"]
    table = markdown(summarised(scores, TRIALS))
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    assert table == (path.parent / "warm_start.md").read_text(encoding="utf-8")


def test_earlier_studies_do_what_the_readme_says() -> None:
    path = ROOT / "trials" / "reference" / "warm_start" / "warm_start.json.gz"
    scores = json.loads(gzip.decompress(path.read_bytes()))["scores"]
    *rows, together = summarised(scores, TRIALS)
    ahead = [(row["earlier"], row["new"]) for row in rows if row["half"][0] > row["half"][1]]
    assert ahead == [
        ("omniglot + emoji48", "glyphs"),
        ("glyphs", "omniglot"),
        ("glyphs + emoji48", "omniglot"),
    ]
    assert sum(row["warm"][0] <= row["cold"][0] / 2 for row in rows) == 5
    assert together["misled"][0] <= 1.1 * together["cold"][0]
    assert all(row["more"][0] > 0 for row in rows)
    tenth = [
        fmean(course[9] for course in scores[f"warm | {row['earlier']} | {row['new']}"])
        - fmean(course[9] for course in scores[f"cold | {row['new']}"])
        for row in rows
    ]
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert f"by {100 * min(tenth):.1f} to {100 * max(tenth):.1f} points" in text


def readme_rows(heading: str) -> dict[str, list[str]]:
    """Learner → cells of the table below a heading of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition(f"### {heading}\n")[2].partition("\n#")[0]
    rows = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `")]
    return {row[0].strip().strip("`"): [cell.strip() for cell in row[1:]] for row in rows}


def test_the_learners_scores_in_the_readme_are_the_committed_ones() -> None:
    omniglot, emoji = sets = [measured(name)["rows"] for name in ("omniglot", "emoji48")]
    shown = readme_rows("Every learner under one budget")
    assert shown.keys() == omniglot.keys() == emoji.keys() == set(LEARNERS)
    for name, cells in shown.items():
        row = omniglot[name]
        accuracies = [percent(each[name]["score"], each[name]["ci95"]) for each in sets]
        assert [cell.strip("*") for cell in cells[:2]] == accuracies, name
        assert cells[2] == f"{row['loss']:.2f}", name
        assert cells[3] == f"{100 * row['ece']:.1f} %", name


@pytest.mark.parametrize(
    ("name", "exceptions"), [("omniglot", set()), ("emoji48", {"cnp", "mann"})]
)
def test_learners_clear_the_floor_but_for_those_that_the_readme_names(
    name: str, exceptions: set[str]
) -> None:
    """5 points above the better of those that know nothing of other tasks."""
    rows = measured(name)["rows"]
    baselines = {"nearest", "scratch"}
    floor = max(rows[each]["score"] for each in baselines) + 0.05
    below = {each for each, row in rows.items() if row["score"] < floor}
    assert below == baselines | exceptions
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for learner, longer in {"cnp": "emoji48_longer", "mann": "emoji48_longest"}.items():
        row = measured(longer)["rows"][learner]
        assert row["score"] > floor or learner not in exceptions
        assert percent(row["score"], row["ci95"]) in text


def test_the_comparison_of_rate_modes_in_the_readme_is_the_committed_one() -> None:
    folder = ROOT / "trials" / "reference" / "lr_vectors"
    trials = pd.read_csv(folder / "trials.csv")
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    for mode, rows in trials.groupby("maml.inner_lr.mode"):
        ended = rows[rows["end"] == "complete"]
        best = ended.loc[ended["score"].idxmax()]
        cells = [mode, str(len(rows)), str(len(ended)), percent(best["score"], best["ci95"])]
        assert f"| {' | '.join(cells)} | {100 * ended['score'].mean():.1f} % |" in text
    ranked = trials[trials["end"] == "complete"].sort_values("score", ascending=False)
    assert set(ranked["maml.inner_lr.groups"][:11]) == {"layer"}
    result = json.loads((folder / "result.json").read_text(encoding="utf-8"))
    for each in (result["winner"]["test"], result["baseline"]["test"]):
        assert percent(each["mean"], each["ci95"]) in text


RANKED_BY = {
    "super-net, trained": "supernet",
    "super-net, random weights": "untrained",
    "multiply–accumulates": "macs",
    "parameters": "parameters",
    "trained alone with another seed: the ceiling": "second_seed",
}


@pytest.mark.parametrize("column", [0, 1])
def test_the_ranking_by_shared_weights_in_the_readme_is_the_committed_one(column: int) -> None:
    name = ("supernet", "supernet_cell")[column]
    path = ROOT / "trials" / "reference" / name / "ranking.json"
    result = json.loads(path.read_text(encoding="utf-8"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("### How well shared weights rank\n")[2].partition("\n##")[0]
    lines = re.findall(r"^\| (.+) \| (-?\d.+) \| (-?\d.+) \|$", section, flags=re.M)
    shown = {label: cells[column] for label, *cells in lines}
    assert set(shown) == set(RANKED_BY)
    rows = result["rows"]
    first, second = zip(*(row["alone"] for row in rows), strict=True)
    for label, measure in RANKED_BY.items():
        found = result["tau"][measure]
        own = second if measure == "second_seed" else [row[measure] for row in rows]
        assert found["tau"] == pytest.approx(kendalltau(own, first).statistic), measure
        assert shown[label] == f"{found['tau']:.2f} [{found['low']:.2f}, {found['high']:.2f}]"
    for scores in ([row["supernet"] for row in rows], [row["untrained"] for row in rows], first):
        assert f"{100 * fmean(scores):.1f} %" in section
    assert f"{len(rows)} random networks" in section
    for seconds in (result["supernet_s"], result["alone_s"]):
        assert f"{seconds:.0f} s" in section


@pytest.mark.parametrize("name", ["search", "surrogates"])
def test_the_comparison_of_searches_in_the_readme_is_the_committed_one(name: str) -> None:
    folder = ROOT / "trials" / "reference" / "search"
    assert (folder / f"{name}.md").read_text() in (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_default_needs_an_eighth_of_what_random_search_does_and_is_never_behind() -> None:
    """On every table, intervals counted in: random's regret after 500 trials within 60."""
    path = ROOT / "trials" / "reference" / "search" / "search.json.gz"
    found = json.loads(gzip.decompress(path.read_bytes()))
    tables = [Path(name) for name in ("glyphs", "omniglot", "emoji48")]
    others = ["Optuna's TPE alone", "ASHA + random", "random"]
    rows = searches(found, tables, ["autometa", *others], "random")
    assert all(row["seeds"] >= 20 for row in rows)
    for table in ("glyphs", "omniglot", "emoji48"):
        here = {row["method"]: row for row in rows if row["table"] == table}
        default = here.pop("autometa")
        assert default["high"] <= 60
        for mark in MARKS:
            least = min(row[f"regret_{mark}"] for row in here.values())
            assert default[f"regret_{mark}"] <= least


def test_no_sampler_and_scheduler_is_ahead_of_the_default_beyond_the_intervals() -> None:
    path = ROOT / "trials" / "reference" / "search_all" / "search.json.gz"
    found = json.loads(gzip.decompress(path.read_bytes()))
    tables = [Path(name) for name in ("glyphs", "omniglot", "emoji48")]
    rows = searches(found, tables, [method.name for method in methods()], "random")
    assert len(rows) == 3 * len(methods())
    defaults = {row["table"]: row for row in rows if row["method"] == "autometa"}
    for row in rows:
        default = defaults[row["table"]]
        for mark in MARKS:
            interval = math.hypot(row[f"ci95_{mark}"], default[f"ci95_{mark}"])
            assert default[f"regret_{mark}"] - row[f"regret_{mark}"] <= interval


def test_the_speeds_in_the_readme_are_the_committed_ones_and_no_peer_is_faster() -> None:
    table = (ROOT / "trials" / "reference" / "speed" / "cpu.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    ratios = [float(ratio) for ratio in re.findall(r"(\d+\.\d+) ×", table)]
    assert len(ratios) >= 40
    assert min(ratios) >= 1.25


def test_the_times_of_sampling_in_the_readme_are_the_committed_ones() -> None:
    """And small images are sampled in a fiftieth of the time of learn2learn's own benchmark."""
    table = (ROOT / "trials" / "reference" / "speed" / "episodes.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [re.findall(r"(\d+) ×(?= \|)", line) for line in table.splitlines()]
    ratios = [tuple(map(int, row)) for row in rows if row]
    assert len(ratios) >= 5
    assert min(map(min, ratios)) > 1
    small = [line for line in table.splitlines() if line.startswith("| 28×28×1 |")]
    assert len(small) >= 4
    assert all(int(line.split("|")[-4].strip(" ×")) >= 50 for line in small)


def test_a_data_set_is_in_memory_once_as_the_readme_says() -> None:
    table = (ROOT / "trials" / "reference" / "speed" / "memory.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    times = dict(re.findall(r"^\| (.+?) \|.* (\d+\.\d+) × \|$", table, flags=re.M))
    assert float(times["in the cache folder"]) < 1.5
    assert float(times["nowhere"]) > 8


def test_the_cohorts_in_the_readme_are_the_committed_ones_and_pay() -> None:
    table = (ROOT / "trials" / "reference" / "speed" / "packing_cpu.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (\d+) \| (\d+) \| [\d,]+ \| ([\d.]+) ×", table, re.MULTILINE)
    gains = {(int(processes), int(cohort)): float(gain) for processes, cohort, gain in rows}
    assert gains[1, 1] == 1
    assert gains[1, 32] >= 5 * gains[1, 1]
    assert gains[2, 16] >= 5 * gains[2, 1]


def test_the_gpu_figures_in_the_readme_are_the_committed_ones_and_no_promise_is_broken() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    folder = ROOT / "trials" / "reference" / "speed"
    names = ("gpu.md", "precision_gpu.md", "packing_gpu.md")
    speed, precision, packing = ((folder / name).read_text(encoding="utf-8") for name in names)
    assert all(table in readme for table in (speed, precision, packing))
    ratios = [float(ratio) for ratio in re.findall(r"(\d+\.\d+) ×", speed)]
    assert len(ratios) >= 12
    assert min(ratios) > 3
    errors = {name: float(e) for name, e in re.findall(r"\| (\w+) \| \d+ \| ([\d.]+) %", precision)}
    assert errors["float32"] < 2 < errors["tf32"] < errors["bfloat16"]
    rows = re.findall(r"^\| (\d+) \| (\d+) \| [\d,]+ \| ([\d.]+) ×", packing, re.MULTILINE)
    gains = {(int(processes), int(cohort)): float(gain) for processes, cohort, gain in rows}
    assert gains[1, 32] >= 5 * max(gains[n, 1] for n in (1, 2, 4, 8))


def numbers(table: str) -> dict[str, list[float]]:
    """First cell of a line → the numbers in the others that have one number each."""
    found = {}
    for line in table.splitlines():
        name, *cells = [cell.strip() for cell in line.strip("|").split("|")]
        found[name] = [float(c) for c in cells if re.fullmatch(r"[\d.]+", c)]
    return found


def test_costs_grow_as_the_readme_says() -> None:
    table = (ROOT / "trials" / "reference" / "speed" / "slopes_cpu.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    slopes = numbers(table)
    for name in ("inner steps", "tasks", "ways"):
        _, at_end, *_ = slopes[name]
        assert at_end == pytest.approx(1, abs=0.15)
    of_time, at_end, of_operations = slopes["width"]
    assert of_time < of_operations < 2
    assert 1 < at_end < 2


def test_memory_grows_with_the_root_of_the_steps_as_the_readme_says() -> None:
    path = ROOT / "trials" / "reference" / "speed" / "slopes_cpu_memory.md"
    table = path.read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    for kept, again in [numbers(table)["slope, 16 – 64"][i::2] for i in (0, 1)]:
        assert kept == pytest.approx(1, abs=0.2)
        assert again == pytest.approx(1 / 2, abs=0.15)


def rows_of(table: str) -> list[list[str]]:
    lines = [line for line in table.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


def test_a_trial_costs_less_than_eight_hundredths_of_a_second() -> None:
    table = (ROOT / "trials" / "reference" / "speed" / "overhead.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    ours = [row for row in rows_of(table) if row[0].startswith("autometa")]
    assert len(ours) == 2
    assert all(float(row[1]) <= 80 for row in ours)


def test_a_trial_among_ten_thousand_costs_what_it_costs_among_a_hundred() -> None:
    """Time of the wall and of the driver, and the driver's memory, within a fifth."""
    table = (ROOT / "trials" / "reference" / "speed" / "growth.md").read_text(encoding="utf-8")
    assert table in (ROOT / "README.md").read_text(encoding="utf-8")
    costs = {row[0]: [float(cell) for cell in row[1:4]] for row in rows_of(table)}
    for few, many in zip(costs["100"], costs["10,000"], strict=True):
        assert many <= 1.2 * few
