"""The comparison of the learners: real processes, real scores, rows that are kept."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from autometa.bench.learners import bench
from autometa.bench.table import markdown
from autometa.config import parse_config
from autometa.errors import ConfigError

Row = dict[str, Any]


def config(out: Path, **space: Any) -> Any:
    return parse_config(
        {
            "name": "compare",
            "task": {"ways": 5, "shots": 1, "queries": 2},
            "space": {
                "learners": {"protonet": {"way_factor": 2}, "nearest": {}},
                "backbones": {"conv4": {"width": 32}},
                **space,
            },
            "budget": {"iterations": 8},
            "validation": {"every": 1},
            "scheduler": {"name": "none"},
            "test": {"tasks": 30},
            "out": out,
        }
    )


def test_every_learner_gets_the_same_images_and_a_row(tmp_path: Path) -> None:
    heard: list[str] = []
    results = bench(config(tmp_path / "out"), lambda name, _: heard.append(name))
    rows = results["rows"]
    assert sorted(heard) == sorted(rows) == ["nearest", "protonet"]
    # 8 tasks of 5 × 3 images are 4 of 10 × 3.
    assert results["budget_images"] == 120
    assert rows["protonet"]["iterations"] == 4
    assert rows["nearest"]["parameters"] == 0
    assert all(0.2 < row["score"] < 1 and row["ece"] >= 0 for row in rows.values())
    written = json.loads((tmp_path / "out" / "learners.json").read_text())
    assert written["rows"] == rows
    frame = pd.read_csv(tmp_path / "out" / "learners.csv")
    assert list(frame["score"]) == sorted(frame["score"], reverse=True)
    assert (tmp_path / "out" / "learners.md").read_text() == markdown(results)

    def never(name: str, _: str) -> None:
        raise AssertionError(f"{name} was measured again")

    assert bench(config(tmp_path / "out"), never)["rows"] == rows
    for row in written["rows"].values():
        del row["spec"]["hyper"]["meta_optimizer"]
    (tmp_path / "out" / "learners.json").write_text(json.dumps(written))
    kept = bench(config(tmp_path / "out"), never)["rows"]
    assert kept == written["rows"], "a field that came later had its default"


def test_a_learner_that_fails_is_a_row_that_says_why(tmp_path: Path) -> None:
    heard: dict[str, str] = {}
    settings = {"maml": {"meta_lr": 1e30, "inner_steps": 1}, "nearest": {}}
    rows = bench(config(tmp_path / "out", learners=settings), heard.__setitem__)["rows"]
    assert rows["maml"]["failed"].startswith("Diverged: diverged at iteration")
    assert heard["maml"] == rows["maml"]["failed"]
    assert heard["nearest"].endswith(" %")
    assert "failed: Diverged" in (tmp_path / "out" / "learners.md").read_text()


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"backbones": {"conv4": {}, "conv": {}}}, "space.backbones are conv4, conv, but"),
        ({"learners": {"protonet": {"scale": [1, 2]}}}, r"space\.learners\.protonet\.scale is"),
        ({"learners": {"protonett": {}}}, "protonett"),
    ],
)
def test_what_is_no_comparison_is_refused(
    tmp_path: Path, space: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        bench(config(tmp_path / "out", **space), lambda *_: None)
    assert not (tmp_path / "out").exists()


def test_failures_come_last_in_the_table() -> None:
    row = {
        "score": 0.5,
        "ci95": 0.01,
        "loss": 1.0,
        "ece": 0.1,
        "iterations": 3,
        "parameters": 7,
        "tasks_per_iteration": 2,
        "ms_per_iteration": 4.0,
        "test_ms_per_task": 1.0,
        "peak_mib": 9.0,
    }
    results = {
        "direction": "maximize",
        "rows": {
            "broken": {"failed": "ValueError: no"},
            "worse": row | {"score": 0.4},
            "best": row,
        },
    }
    lines = markdown(results).splitlines()[2:]
    assert [line.split("`")[1] for line in lines] == ["best", "worse", "broken"]
    assert "50.0 ± 1.0 %" in lines[0]
    assert "failed: ValueError: no" in lines[2]
