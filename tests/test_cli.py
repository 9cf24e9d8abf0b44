"""The ``autometa`` command as a user runs it, from a dry run to the exported bundle."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
import time
import tomllib
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pytest
import torch
import yaml
from PIL import Image
from ray_warnings import RAY_WARNINGS

from autometa import formats, load_bundle, load_study
from autometa.errors import BundleError
from autometa.export.formats import FORMATS
from autometa.export.formats.base import Format, Winner

Command = Callable[..., Any]
pytestmark = RAY_WARNINGS

FLAGS = [
    (("--set", "task.shots=3"), "task.shots", 3),
    (("--set", "data.options.x_limit=4", "--set", "seed=2"), "data.options.x_limit", 4),
    (("--set", "space.learners.maml.inner_steps=2"), "space.learners.maml.inner_steps", 2),
    (("--trials", "7"), "budget.trials", 7),
    (("--set", "budget.trials=9", "--trials", "7"), "budget.trials", 7),
    (("--time", "2h"), "budget.time", 7200.0),
    (("--time", "1h30m"), "budget.time", 5400.0),
    (("--gpus-per-trial", "0.25"), "resources.gpus_per_trial", 0.25),
    (("--concurrency", "3"), "resources.concurrency", 3),
    (("--seed", "11"), "seed", 11),
    (("--storage", "sqlite:///all.db"), "storage", "sqlite:///all.db"),
    (("--address", "10.0.0.1:6379"), "address", "10.0.0.1:6379"),
    (("--out", "2026"), "out", "2026"),
    (("--out", "a: b #1"), "out", "a: b #1"),
    ((), "out", "trials/small"),
]


def printed_configuration(text: str) -> dict[str, Any]:
    """The YAML with which a dry run begins."""
    values: dict[str, Any] = yaml.safe_load(re.split("^search space +$", text, flags=re.M)[0])
    return values


def at(values: Any, path: str) -> Any:
    """The value at ``a.b.c``."""
    for key in path.split("."):
        values = values[key]
    return values


def test_a_dry_run_prints_configuration_space_and_size(autometa: Command, place: Path) -> None:
    ended = autometa("search", "quickstart", "--dry-run")
    assert (ended.code, ended.err) == (0, "")
    config = printed_configuration(ended.out)
    assert config["data"]["name"] == "glyphs"
    assert config["validation"] == {"every": 40, "tasks": 60, "max_tasks": None}
    assert re.search(r"^maml\.inner_lr\.groups +│ \{scalar, layer\} +│ learner = maml", *in_(ended))
    assert re.search(r"^conv\.width +│ \{16, 32, 64\} +│ backbone = conv", *in_(ended))
    budget = config["budget"]
    whole = rf"budget: {budget['trials']} trials of at most {budget['iterations']} meta-iterations"
    assert re.search(rf"^size: about .* {whole}", *in_(ended))
    assert not (place / "trials").exists()


def in_(ended: Any) -> tuple[str, int]:
    """The output, to be searched line by line."""
    return ended.out, re.MULTILINE


@pytest.mark.parametrize(("flags", "field", "value"), FLAGS)
def test_a_flag_reaches_the_configuration(
    autometa: Command, place: Path, flags: tuple[str, ...], field: str, value: object
) -> None:
    ended = autometa("search", "small.yaml", "--dry-run", *flags)
    assert ended.code == 0, ended.err
    assert at(printed_configuration(ended.out), field) == value


def test_the_storage_may_come_from_the_environment(
    autometa: Command, place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUTOMETA_STORAGE", "sqlite:///all.db")
    ended = autometa("search", "small.yaml", "--dry-run")
    assert printed_configuration(ended.out)["storage"] == "sqlite:///all.db"


@pytest.mark.parametrize(
    ("command", "lines"),
    [
        (("learners",), [r"^maml +│ MAML: an initialization", r"^protonet +│ "]),
        (("learners", "maml"), [r"^maml: .*arXiv:1703.03400", r"^inner_steps +│ 5 +│ 1 … 5 +│"]),
        (("backbones",), [r"^conv +│ ", r"^conv4 +│ ", r"^mlp +│ "]),
        (("backbones", "conv"), [r"^conv: ", r"^depth +│ .*4.*│ 4", r"^conv1/kernel +│ "]),
        (("spaces",), [r"^quickstart\t.*search_spaces/quickstart.yaml$", r"^omniglot\t"]),
        (("data", "list"), [r"^omniglot +│ root +│ required", r"^glyphs +│ image_size +│ 28"]),
    ],
)
def test_lists_of_what_there_is(
    autometa: Command, command: tuple[str, ...], lines: list[str]
) -> None:
    ended = autometa(*command)
    assert (ended.code, ended.err) == (0, "")
    for line in lines:
        assert re.search(line, *in_(ended)), ended.out


def test_every_shipped_space_can_be_run(autometa: Command, place: Path) -> None:
    """Those that need no other data than come with the package."""
    for line in autometa("spaces").out.splitlines():
        name, path = line.split("\t")
        if yaml.safe_load(Path(path).read_text())["data"]["name"] in ("glyphs", "sinusoid"):
            assert autometa("search", name, "--dry-run").code == 0, name


@pytest.mark.parametrize("name", ["glyphs", "sinusoid"])
def test_a_picture_of_a_data_set(autometa: Command, place: Path, name: str) -> None:
    ended = autometa("data", "show", name, "--out", "pictures/some.png")
    assert (ended.code, ended.err) == (0, "")
    assert "picture: pictures/some.png" in ended.out
    assert re.search("^validation +│", *in_(ended))
    with Image.open(place / "pictures/some.png") as picture:
        picture.load()
        assert picture.format == "PNG"
        assert min(picture.size) > 200
    assert len(list((place / "pictures").iterdir())) == 1


def in_a_process(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """The installed command, its output no terminal."""
    return subprocess.run(
        [str(Path(sys.executable).parent / "autometa"), *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        cwd=cwd,
    )


@pytest.fixture(scope="module")
def seen(tmp_path_factory: pytest.TempPathFactory, small_yaml: str) -> tuple[Path, str, str]:
    """A whole search by the command, what it printed, and what someone printed who watched it."""
    place = tmp_path_factory.mktemp("search")
    (place / "small.yaml").write_text(small_yaml)
    command = [str(Path(sys.executable).parent / "autometa"), "search", "small.yaml"]
    with subprocess.Popen(
        [*command, "--out", "study", "--seed", "3"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=place,
    ) as search:
        while not (place / "study").exists():
            assert search.poll() is None, search.communicate()
            time.sleep(0.02)
        watcher = in_a_process("watch", "study", "--json", "--every", "0.1", cwd=place)
        out, errors = search.communicate(timeout=300)
    assert search.returncode == 0, errors
    assert watcher.returncode == 0, watcher.stderr
    return place / "study", out, watcher.stdout


@pytest.fixture(scope="module")
def searched(seen: tuple[Path, str, str]) -> tuple[Path, str]:
    """A whole search by the command, and what it printed."""
    return seen[:2]


def test_who_watches_a_search_is_told_everything(seen: tuple[Path, str, str]) -> None:
    study, _, watched = seen
    check_json(watched, study, "study", whole=False)


def test_a_study_that_does_not_run_is_shown_once_and_left_alone(
    autometa: Command, searched: tuple[Path, str]
) -> None:
    study, _ = searched
    before = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in study.rglob("*")}
    assert autometa("watch", study).out == autometa("status", study).out
    lines = autometa("watch", study, "--json").out.splitlines()
    assert json.loads(lines[-1])["result"] == json.loads((study / "result.json").read_text())
    after = {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in study.rglob("*")}
    lock = study / ".lock"
    assert before.keys() == after.keys()
    assert {p for p in before if before[p] != after[p]} <= {lock}


def test_status_for_programs(autometa: Command, searched: tuple[Path, str]) -> None:
    study, _ = searched
    found, told = load_study(study), json.loads(autometa("status", study, "--json").out)
    assert told["state"] == "finished"
    assert told["result"] == found.result
    assert told["counted"] == len(found.rows) == 3
    assert told["counts"] == dict(Counter(row.end for row in found.rows))
    complete = [row for row in found.rows if row.end == "complete"]
    best = min(complete, key=lambda row: row.score or 0.0)
    assert told["best"]["name"] == best.name
    assert told["best"]["params"] == best.params
    assert [dict(each["curve"]) for each in told["trials"]] == [row.curve for row in found.rows]


def test_a_search_leaves_everything_it_promises(searched: tuple[Path, str]) -> None:
    study, _ = searched
    names = {"report.html", "trials.csv", "result.json", "best", "study.yaml", "study.db"}
    assert names <= {path.name for path in study.iterdir()}
    page = (study / "report.html").read_text()
    assert "<script" in page
    assert '<figure id="network"' in page, "study.yaml says what shape the inputs have"
    with (study / "trials.csv").open() as file:
        assert len(list(csv.DictReader(file))) == 3
    manifest = yaml.safe_load((study / "study.yaml").read_text())
    assert manifest["config"]["seed"] == 3
    assert [path.name for path in study.parent.iterdir() if path.name.startswith(".")] == []


def test_a_search_prints_plain_lines_to_a_pipe(searched: tuple[Path, str]) -> None:
    study, out = searched
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", out), "no colours, no control codes"
    lines = out.splitlines()
    assert lines[0].startswith("study small: 3 trials of at most 12 meta-iterations")
    assert [line[:3] for line in lines if re.match(r"\d/3 maml-mlp-00\d ", line)] == [
        "1/3",
        "2/3",
        "3/3",
    ]
    result = json.loads((study / "result.json").read_text())
    assert f"Winner: {result['winner']['name']}" in out
    assert any(line.startswith("Meta-test: mse ") for line in lines)
    assert any("export study --to" in line for line in lines), "it says what comes next"


def test_status_of_a_finished_study(autometa: Command, searched: tuple[Path, str]) -> None:
    study, _ = searched
    ended = autometa("status", study)
    assert (ended.code, ended.err) == (0, "")
    winner = json.loads((study / "result.json").read_text())["winner"]
    assert winner["name"] in ended.out


def test_a_report_is_written_anew(autometa: Command, searched: tuple[Path, str]) -> None:
    study, _ = searched
    (study / "report.html").unlink()
    (study / "trials.csv").unlink()
    ended = autometa("report", study)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"report: {study / 'report.html'}\n"
    assert (study / "report.html").stat().st_size > 1000
    assert (study / "trials.csv").exists()


def test_the_three_formats_say_the_same(autometa: Command, searched: tuple[Path, str]) -> None:
    study, _ = searched
    texts = {
        form: autometa("export", study, "--config-only", form).out
        for form in ("yaml", "json", "toml")
    }
    as_json = json.loads(texts["json"])
    assert as_json == json.loads((study / "result.json").read_text())["winner"]
    assert yaml.safe_load(texts["yaml"]) == as_json
    assert tomllib.loads(texts["toml"]) == without_none(as_json), "TOML has no null"


def without_none(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_none(below) for key, below in value.items() if below is not None}
    return [without_none(below) for below in value] if isinstance(value, list) else value


@pytest.fixture
def bundle(autometa: Command, place: Path, searched: tuple[Path, str]) -> Path:
    """The winner, exported by the command."""
    ended = autometa("export", searched[0], "--to", "project/model")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out.startswith("bundle: project/model\nuse it: from model import load")
    return place / "project/model"


def test_other_formats_are_written_by_name(
    autometa: Command, place: Path, searched: tuple[Path, str]
) -> None:
    ended = autometa("export", searched[0], "--to", "settings", "--format", "config")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == "config: settings\nuse it: see settings\n"
    told = json.loads((place / "settings/config.json").read_text())
    assert told["name"] == json.loads((searched[0] / "result.json").read_text())["winner"]["name"]
    listed = autometa("formats").out
    assert all(name in listed for name in formats())


class Half(Format):
    """Says what it can't express."""

    summary: ClassVar[str] = "half of it"
    needs: ClassVar[tuple[str, ...]] = ("half>=2",)

    def losses(self, winner: Winner) -> list[str]:
        return ["its rates differ", "its head has a bias"]

    def write(self, winner: Winner, into: Path) -> None:
        (into / "README.md").write_text("half")


def test_what_a_format_would_lose_must_be_agreed_to(
    autometa: Command, place: Path, searched: tuple[Path, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FORMATS.targets, "half", f"{__name__}:Half")
    line = ("export", searched[0], "--to", "half", "--format", "half")
    ended = autometa(*line)
    assert (ended.code, ended.out) == (2, "")
    assert "its rates differ; its head has a bias (--lossy" in ended.err
    assert not (place / "half").exists()
    ended = autometa(*line, "--lossy")
    assert ended.code == 0
    assert ended.err == "lost: its rates differ\nlost: its head has a bias\n"
    assert ended.out == "half: half\nuse it: see half/README.md; pip install 'half>=2'\n"


def test_a_search_learns_from_an_earlier_one(
    autometa: Command, searched: tuple[Path, str], place: Path
) -> None:
    shown = autometa("search", "small.yaml", "--warm-start", searched[0], "--dry-run")
    assert "warm start: 3 trials of study" in shown.out
    warm = ("small.yaml", "--warm-start", str(searched[0]), "--out", "warm")
    ended = in_a_process("search", *warm, "--json", cwd=place)
    assert ended.returncode == 0, ended.stderr
    check_json(ended.stdout, place / "warm", "warm")
    (kept,) = json.loads((place / "warm/earlier.json").read_text())
    assert kept["name"] == "study"
    best, rate = max((each["rank"], each["values"]["maml.meta_lr"]) for each in kept["trials"])
    assert best == pytest.approx(5 / 6)
    with (searched[0] / "trials.csv").open() as file:
        complete = [row for row in csv.DictReader(file) if row["end"] == "complete"]
    least = min(complete, key=lambda row: float(row["score"]))
    assert rate == pytest.approx(float(least["maml.meta_lr"]))


def check_json(out: str, study: Path, place: str, *, whole: bool = True) -> None:
    """Nothing but one JSON object a line, which tell of everything that is in the study."""
    lines = [json.loads(line) for line in out.splitlines()]
    found = load_study(study)
    by_event: dict[str, list[dict[str, Any]]] = {}
    for line in lines:
        by_event.setdefault(line["event"], []).append(line)
    assert lines[0]["event"] == "search_started"
    assert lines[0]["config"] == found.config.public() | {"out": place}
    assert [(e["number"], e["name"], e["end"], e["score"]) for e in by_event["trial_ended"]] == [
        (row.number, row.name, row.end, row.score) for row in found.rows
    ]
    assert {e["number"] for e in by_event["trial_started"]} == {row.number for row in found.rows}
    curves = {row.number: row.curve for row in found.rows}
    assert [e["score"] for e in by_event["trial_reported"]] == [
        curves[e["number"]][e["iteration"]] for e in by_event["trial_reported"]
    ]
    assert sum(map(len, curves.values())) == len(by_event["trial_reported"])
    titles = list(dict.fromkeys(line["title"] for line in by_event.get("phase", [])))
    phases = ["finalists", "confirmation", "meta-test", "a closer look"]
    known = [title for title in titles if title in phases]
    # One who looks now and then may miss a short phase.
    assert known == (phases if whole else [phase for phase in phases if phase in known])
    assert lines[-1]["event"] == "result"
    assert (lines[-1]["folder"], lines[-1]["result"]) == (place, found.result)


def test_an_exported_bundle_predicts(bundle: Path) -> None:
    x = torch.linspace(-5, 5, 10)[:, None]
    predict = load_bundle(bundle).adapt(x, x.sin())
    predicted = predict(torch.zeros(4, 1))
    assert predicted.shape == (4, 1)
    assert predicted.isfinite().all()


def test_a_bundle_is_not_overwritten(autometa: Command, bundle: Path, searched: Any) -> None:
    before = {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")}
    ended = autometa("export", searched[0], "--to", bundle)
    assert ended.code == 2
    assert re.fullmatch(r"error: '.*model' exists already: choose another folder.*\n", ended.err)
    assert {path: path.stat().st_mtime_ns for path in bundle.parent.rglob("*")} == before


def test_a_bundle_that_cannot_be_written(
    autometa: Command, place: Path, searched: tuple[Path, str]
) -> None:
    ended = autometa("export", searched[0], "--to", "file.txt/model")
    assert ended.code == 2
    assert re.fullmatch(r"error: 'file.txt/model' can't be written: .*\n", ended.err)


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_bytes(b"\0" * 50)])
def test_damaged_weights_are_named(bundle: Path, damage: Callable[[Path], None]) -> None:
    damage(bundle / "weights.safetensors")
    with pytest.raises(BundleError, match=r"is damaged: .*weights\.safetensors can't be read"):
        load_bundle(bundle)


def test_a_finished_study_is_resumed_to_the_same_end(
    autometa: Command, searched: tuple[Path, str], place: Path
) -> None:
    study, out = searched
    copy = shutil.copytree(study, place / "study")
    shutil.rmtree(copy / "best")
    ended = autometa("resume", "study")
    assert (ended.code, ended.err) == (0, "")
    assert (copy / "result.json").read_text() == (study / "result.json").read_text()
    assert (copy / "best/model.py").read_text() == (study / "best/model.py").read_text()
    winner = next(line for line in out.splitlines() if line.startswith("Winner:"))
    assert winner in ended.out.splitlines()
    told = [json.loads(line) for line in autometa("resume", "study", "--json").out.splitlines()]
    assert (told[0]["event"], told[0]["ended"]) == ("search_started", 3)
    assert told[-1]["result"] == json.loads((copy / "result.json").read_text())
    assert autometa("resume", "study", "--quiet").out == ""


def test_tables_for_other_programs(
    autometa: Command, searched: tuple[Path, str], tmp_path: Path
) -> None:
    study, _ = searched
    assert autometa("table", study).out == (study / "trials.csv").read_text()
    autometa("table", study, "curves", "--to", tmp_path / "curves.parquet")
    curves = load_study(study).curves
    assert pd.read_parquet(tmp_path / "curves.parquet").equals(curves)
    assert "parameter,importance" in autometa("table", study, "importances").out
    assert len(autometa("table", study, "pareto").out.splitlines()) == 2
    for wrong in ("table.xlsx", "nowhere/table.csv"):
        refused = autometa("table", study, "--to", tmp_path / wrong)
        assert refused.code == 2
        assert "--to is" in refused.err
