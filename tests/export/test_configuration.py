"""A configuration as text reads back as it was."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from autometa.errors import ConfigError
from autometa.export.configuration import render

# PyYAML doesn't keep the rarer line breaks of Unicode, which no name of ours has.
LETTERS = st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"], include_characters="\n\t")
TEXT = st.text(LETTERS, max_size=12)
NUMBERS = st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False, allow_infinity=False)
PLAIN = st.booleans() | NUMBERS | TEXT
NESTED = st.recursive(
    PLAIN,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=8,
)
VALUES = st.dictionaries(TEXT, NESTED, max_size=4)
READERS: dict[str, Callable[[str], Any]] = {
    "json": json.loads,
    "yaml": yaml.safe_load,
    "toml": tomllib.loads,
}


@pytest.mark.parametrize("form", READERS)
@given(values=VALUES)
def test_text_reads_back_as_it_was(form: str, values: dict[str, Any]) -> None:
    assert READERS[form](render(values, form)) == values


@pytest.mark.parametrize("form", READERS)
def test_fields_keep_their_order_and_text_ends_with_a_line_break(form: str) -> None:
    text = render({"z": 1, "a": "ü", "m": True}, form)
    assert list(READERS[form](text)) == ["z", "a", "m"]
    assert "ü" in text
    assert text.endswith("\n")


@pytest.mark.parametrize("form", ["json", "yaml"])
def test_none_is_kept_where_the_format_has_one(form: str) -> None:
    values = {"name": None, "inner": {"limit": None}}
    assert READERS[form](render(values, form)) == values


def test_toml_leaves_none_out_at_every_depth() -> None:
    values = {"name": None, "inner": {"limit": None, "rows": [{"low": None, "high": 2}]}, "n": 1}
    assert tomllib.loads(render(values, "toml")) == {"inner": {"rows": [{"high": 2}]}, "n": 1}


def test_an_unknown_format_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="format 'yml' is unknown: did you mean 'yaml'"):
        render({}, "yml")
