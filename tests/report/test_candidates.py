"""A candidate's architecture in words."""

from __future__ import annotations

from autometa.report.candidates import architecture_text


def test_numbered_blocks_are_told_together_and_cells_edge_by_edge() -> None:
    blocks = {"depth": 2, "conv1/kernel": 3, "conv2/kernel": 5, "conv1/skip": True}
    assert architecture_text(blocks) == "depth 2, kernel 3-5, skip yes"
    cells = {"nodes": 2, "normal/op_2_0": "skip_connect", "reduce/op_2_0": "none"}
    told = "nodes 2, normal/op_2_0 skip_connect, reduce/op_2_0 none"
    assert architecture_text(cells) == told
