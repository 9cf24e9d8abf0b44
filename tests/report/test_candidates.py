"""A candidate in words: its architecture, its learning-rate vector."""

from __future__ import annotations

from dataclasses import asdict

import optuna
import pytest

from autometa.config import SpaceConfig
from autometa.report.candidates import architecture_text, rate_tables
from autometa.search.space import build_space


def test_numbered_blocks_are_told_together_and_cells_edge_by_edge() -> None:
    blocks = {"depth": 2, "conv1/kernel": 3, "conv2/kernel": 5, "conv1/skip": True}
    assert architecture_text(blocks) == "depth 2, kernel 3-5, skip yes"
    cells = {"nodes": 2, "normal/op_2_0": "skip_connect", "reduce/op_2_0": "none"}
    told = "nodes 2, normal/op_2_0 skip_connect, reduce/op_2_0 none"
    assert architecture_text(cells) == told


@pytest.mark.parametrize("form", ["product", "low_rank", "entries"])
def test_the_columns_of_a_vector_are_named_whatever_its_form(form: str) -> None:
    rates = {"forms": [form], "groups": ["layer"], "modes": ["searched"]}
    given = SpaceConfig(
        learners={"maml": {"inner_lr": rates}}, backbones={"conv": {"depth": 2, "width": 16}}
    )
    trial = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0)).ask()
    candidate = build_space(given, (1, 28, 28), "classification").sample(trial)
    (table,) = rate_tables(asdict(candidate), trial.params)
    assert table.columns == ("conv1", "conv2", "head")
