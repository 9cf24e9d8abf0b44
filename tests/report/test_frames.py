"""Frames of a study: one row a trial, one row a scoring, and CSV that reads back."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
import pandas as pd
import pytest

from autometa.report.frames import (
    curves_frame,
    importances_frame,
    pareto_frame,
    trials_frame,
    write_csv,
    write_parquet,
)
from autometa.search.study import rows_of

Make = Callable[..., Any]
FIRST = ["number", "name", "learner", "backbone", "end", "reason", "score", "ci95"]
NEXT = ["iteration", "seconds", "parameters", "macs"]


def test_one_row_a_trial_with_the_sampled_parameters(make_study: Make) -> None:
    made = make_study()
    made.fill()
    rows = rows_of(made.study)
    frame = trials_frame(rows)
    assert list(frame.columns[:12]) == FIRST + NEXT
    assert list(frame.columns[12:]) == sorted(frame.columns[12:])
    assert frame.columns.is_unique, "learner is a sampled parameter too, but one column"
    assert frame["number"].tolist() == list(range(12))
    for row, (_, cells) in zip(rows, frame.iterrows(), strict=True):
        assert cells["end"] == row.end
        assert cells["parameters"] == row.candidate["parameters"]
        own = {name: cells[name] for name in frame.columns[12:] if pd.notna(cells[name])}
        rates = row.candidate["hyper"].get("inner_lr", {"values": []})["values"]
        vector = {
            f"inner_lr[{s}][{g}]": r for s, each in enumerate(rates) for g, r in enumerate(each)
        }
        assert own == {k: v for k, v in row.params.items() if k not in FIRST} | vector
    assert "inner_lr[1][2]" in frame.columns
    assert pd.isna(frame.set_index("end").loc["failed", "score"])


def test_columns_do_not_depend_on_the_order_of_trials(make_study: Make) -> None:
    made = make_study()
    made.fill()
    rows = rows_of(made.study)
    assert list(trials_frame(rows).columns) == list(trials_frame(rows[::-1]).columns)


def test_curves_are_long(make_study: Make) -> None:
    made = make_study()
    made.fill()
    frame = curves_frame(rows_of(made.study))
    assert list(frame.columns) == ["number", "name", "iteration", "score"]
    cut = frame[frame["number"] == 7]
    assert cut[["iteration", "score"]].values.tolist() == [[60, 0.33], [120, 0.36]]
    assert frame["score"].notna().all(), "a diverged trial's NaN is no score"


def test_a_study_without_trials_has_empty_frames_with_columns() -> None:
    assert list(trials_frame([]).columns) == FIRST + NEXT
    assert trials_frame([]).empty
    assert curves_frame([]).empty


def test_csv_reads_back(make_study: Make, tmp_path: Path) -> None:
    made = make_study()
    made.fill()
    frame = trials_frame(rows_of(made.study))
    path = tmp_path / "trials.csv"
    path.write_text("old")
    write_csv(frame, path)
    again = pd.read_csv(path, keep_default_na=False, na_values=[""])
    again["reason"] = again["reason"].fillna("")
    pd.testing.assert_frame_equal(again, frame, check_dtype=False)
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["trials.csv"]


def test_latency_is_a_column_only_where_it_was_measured(make_study: Make) -> None:
    made = make_study()
    made.fill()
    rows = rows_of(made.study)
    assert "latency_ms" not in trials_frame(rows).columns
    timed = replace(rows[0], candidate=rows[0].candidate | {"latency_ms": 1.5})
    frame = trials_frame([timed, *rows[1:]])
    assert list(frame.columns[:13]) == [*FIRST, *NEXT, "latency_ms"]
    assert frame["latency_ms"].tolist()[0] == 1.5
    assert frame["latency_ms"][1:].isna().all()


def test_importances_are_optunas(make_study: Make) -> None:
    made = make_study()
    assert importances_frame(made.study).empty, "nothing is known yet"
    made.fill()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = optuna.importance.get_param_importances(made.study)
    frame = importances_frame(made.study)
    assert list(frame["parameter"]) == list(expected)
    assert frame["importance"].tolist() == pytest.approx(list(expected.values()))
    assert frame["importance"].sum() == pytest.approx(1)


def test_the_front_is_optunas(make_study: Make) -> None:
    made = make_study(objectives=["accuracy", "parameters"], scheduler={"name": "none"})
    made.fill()
    frame = pareto_frame(made.study)
    assert set(frame["number"]) == {trial.number for trial in made.study.best_trials}
    assert list(frame["score"]) == sorted(frame["score"], reverse=True)
    assert list(frame.columns[-2:]) == ["score", "parameters"]
    single = make_study()
    single.fill()
    (best,) = pareto_frame(single.study)["number"]
    assert best == single.study.best_trial.number


def test_parquet_reads_back(make_study: Make, tmp_path: Path) -> None:
    made = make_study()
    made.fill()
    frame = trials_frame(rows_of(made.study))
    frame["mixed"] = [1, "two", None] * 4
    write_parquet(frame, tmp_path / "trials.parquet")
    back = pd.read_parquet(tmp_path / "trials.parquet")
    assert list(back.columns) == list(frame.columns)
    assert back["mixed"].tolist()[:2] == ["1", "two"]
    assert back["mixed"].isna().tolist()[:3] == [False, False, True]
    for name in ("number", "score", "inner_lr[1][2]"):
        pd.testing.assert_series_equal(back[name], frame[name])
    assert [path.name for path in tmp_path.glob("*parquet*")] == ["trials.parquet"]
