"""The learning-rate vector: names, columns, shapes."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from autometa.learners.rates import GROUPS, RateVector, group_index, group_names, layer_of

NAMES = st.lists(
    st.from_regex(r"(conv|fc|head)[1-9](\.(conv|norm))?\.(weight|bias)", fullmatch=True),
    min_size=1,
    max_size=12,
    unique=True,
)
RATE = st.floats(1e-3, 1.0)


@given(NAMES, st.sampled_from(GROUPS))
def test_every_parameter_has_the_column_of_its_group(names: list[str], groups: str) -> None:
    columns, index = group_names(names, groups), group_index(names, groups)
    assert list(index) == names
    assert len(set(columns)) == len(columns)
    assert set(index.values()) == set(range(len(columns)))
    for name, column in index.items():
        group = {"scalar": "all", "layer": layer_of(name), "parameter": name}[groups]
        assert columns[column] == group


@given(NAMES)
def test_columns_follow_the_order_of_the_parameters(names: list[str]) -> None:
    assert group_names(names, "parameter") == names
    layers = [layer_of(name) for name in names]
    firsts = [layers.index(layer) for layer in group_names(names, "layer")]
    assert firsts == sorted(firsts)


@given(NAMES, st.sampled_from(GROUPS), st.integers(1, 5), st.booleans(), st.booleans(), st.data())
def test_single_rows_and_entries_spread(
    names: list[str], groups: str, steps: int, one_row: bool, one_column: bool, data: st.DataObject
) -> None:
    columns = len(group_names(names, groups))
    rows, width = 1 if one_row else steps, 1 if one_column else columns
    row = st.tuples(*[RATE] * width)
    values = data.draw(st.tuples(*[row] * rows))
    rates = RateVector("searched", groups, values).tensor(steps, names)
    assert rates.shape == (steps, columns)
    assert rates.dtype == torch.float32
    for step in range(steps):
        for column in range(columns):
            given_rate = values[0 if one_row else step][0 if one_column else column]
            assert rates[step, column].item() == pytest.approx(given_rate, rel=1e-6)
    rates[0, 0] = 5.0
    assert (rates == 5.0).sum() == 1, "entries must not share memory"


@pytest.mark.parametrize("values", [((0.1,),) * 3, ((0.1, 0.2, 0.3),)])
def test_a_vector_of_another_shape_is_refused(values: tuple[tuple[float, ...], ...]) -> None:
    with pytest.raises(ValueError, match=r"doesn't fit 2 steps × 2 groups \(layer\)"):
        RateVector("fixed", "layer", values).tensor(2, ["conv1.weight", "head.weight"])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"mode": "guessed"}, "mode is 'guessed'"),
        ({"groups": "channel"}, "groups is 'channel'"),
        ({"values": ()}, "rows of equal, positive length"),
        ({"values": ((),)}, "rows of equal, positive length"),
        ({"values": ((0.1, 0.2), (0.1,))}, "rows of equal, positive length"),
    ],
)
def test_impossible_vectors_are_refused(wrong: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RateVector(**wrong)  # type: ignore[arg-type]
