from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, is_dataclass

import pytest
from pydantic import TypeAdapter, ValidationError

from autometa.episodes import DATASETS, load, options_type
from autometa.errors import DataError, UnknownNameError


def test_listing_names_costs_no_torch_import() -> None:
    code = (
        "import sys, autometa.episodes as e; assert len(list(e.DATASETS)) >= 4; "
        "assert 'torch' not in sys.modules; e.Task; assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", list(DATASETS.members))
def test_options_are_documented_dataclasses(name: str) -> None:
    kind = options_type(name)
    assert is_dataclass(kind)
    assert kind.__doc__
    for field in fields(kind):
        assert len(field.metadata["meaning"]) > 5


@pytest.mark.parametrize("name", list(DATASETS.members))
def test_options_can_be_validated_by_pydantic(name: str) -> None:
    given = {"root": "somewhere"} if name in ("omniglot", "imagefolder") else {}
    adapter = TypeAdapter(options_type(name))
    assert adapter.validate_python(given) == options_type(name)(**given)
    assert TypeAdapter(options_type("glyphs")).validate_python({"instances": "7"}).instances == 7
    with pytest.raises(ValidationError):
        TypeAdapter(options_type("omniglot")).validate_python({"root": "x", "split": "by size"})


def test_lists_of_names_come_from_yaml_as_lists() -> None:
    adapter = TypeAdapter(options_type("omniglot"))
    options = adapter.validate_python({"root": "x", "test_alphabets": ["Greek"]})
    assert list(options.test_alphabets) == ["Greek"]


def test_unknown_names() -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'glyphs'"):
        load("glyph")
    with pytest.raises(DataError, match=r"'instance'.*did you mean 'instances'"):
        load("glyphs", {"instance": 3})


@pytest.mark.parametrize("name", ["omniglot", "imagefolder"])
def test_a_required_option_is_asked_for(name: str) -> None:
    with pytest.raises(DataError, match=f"{name!r} needs the option 'root'"):
        load(name)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"instances": 1}, "instances is 1, but must be at least 2"),
        ({"image_size": 4000}, "image_size is 4000, but must be at most 128"),
        ({"seed": "a"}, "seed is 'a', but must be a whole number"),
    ],
)
def test_options_out_of_range(options, message) -> None:
    with pytest.raises(DataError, match=message):
        load("glyphs", options)
