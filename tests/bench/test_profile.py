"""A profile of a meta-iteration: its operators are counted right, its trace can be opened."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from autometa.bench.profile import COLUMNS, SHOWN, profile_space
from autometa.config import StudyConfig, parse_config
from autometa.errors import ConfigError

CONFIG = {
    "data": {"name": "glyphs"},
    "task": {"ways": 3, "shots": 1, "queries": 2},
    "space": {
        "learners": {"protonet": {"meta_batch": 1, "augment": "none"}},
        "backbones": {"conv4": {"width": 32}},
    },
}


def config() -> StudyConfig:
    return parse_config(CONFIG)


def test_operators_are_those_of_one_meta_iteration(tmp_path: Path) -> None:
    found = profile_space(config(), 2, tmp_path / "trace.json")
    calls = {operator.name: operator.calls for operator in found.operators}
    assert found.spec.learner == "protonet"
    # Support and queries each go through four convolutions, forward and back.
    assert calls["aten::convolution"] == calls["aten::convolution_backward"] == 8
    times = [operator.ms for operator in found.operators]
    assert times == sorted(times, reverse=True)
    assert found.ms == sum(times) > 0
    events = json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    assert sum(event.get("name") == "aten::convolution" for event in events) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["trace.json"]


def test_its_table_leaves_no_time_out(tmp_path: Path) -> None:
    found = profile_space(config(), 1, tmp_path / "trace.json")
    lines = found.lines()
    assert len(lines) == SHOWN + 1
    assert all(len(line) == len(COLUMNS) for line in lines)
    assert lines[-1][0] == f"{len(found.operators) - SHOWN} others"
    assert sum(float(line[3].removesuffix(" %")) for line in lines) == pytest.approx(100, abs=1)


@pytest.mark.parametrize("trace", [".", "missing/trace.json"])
def test_a_trace_that_cannot_be_written_is_refused(trace: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="must be a file in a folder that exists"):
        profile_space(config(), 1, tmp_path / trace)
    assert not list(tmp_path.iterdir())


def test_the_command_prints_a_table(autometa: Any, tmp_path: Path) -> None:
    path = tmp_path / "trace.json"
    done = autometa(
        "profile", "quickstart", "--iterations", "1", "--trace", path,
        "--set", "space.learners=[protonet]", "--set", "space.backbones=[conv4]",
    )  # fmt: skip
    assert "protonet on conv4" in done.out
    assert "aten::" in done.out
    assert path.exists()
