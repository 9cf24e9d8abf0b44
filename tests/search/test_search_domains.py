"""Domains in YAML: what a user may write, and what every mistake is answered with."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autometa.errors import ConfigError
from autometa.learners.domains import Choice, Float, Int, Rates
from autometa.learners.rates import RateVector
from autometa.search.domains import Fixed, describe, override

FLOAT, INT, TEXT = Float(0.001, 1.0, log=True), Int(1, 5), Choice(("first", "second"))
MORE, NONE = Choice(("adam",), ("sgd",)), Float(0.0, 0.0)
SIZES, FLAG = Choice((1, 2, 4)), Choice((False, True))
RATES = Rates(1e-3, 1.0)

finite = st.floats(1e-6, 1e6)


@given(value=finite)
def test_a_number_fixes_a_real(value: float) -> None:
    assert override("f", FLOAT, value, 0.1) == Fixed(value)


@given(low=finite, high=finite)
def test_a_range_is_taken_or_refused_by_its_order(low: float, high: float) -> None:
    given_domain = {"low": low, "high": high}
    if low <= high:
        assert override("f", FLOAT, given_domain, 0.1) == Float(low, high, log=True)
    else:
        with pytest.raises(ConfigError, match="swap"):
            override("f", FLOAT, given_domain, 0.1)


@given(values=st.lists(st.integers(1, 64), min_size=1))
def test_a_list_gives_choices(values: list[int]) -> None:
    assert override("f", SIZES, values, 1) == Choice(tuple(values))
    assert override("f", INT, {"choices": values}, 1) == Choice(tuple(values))


@pytest.mark.parametrize(
    ("domain", "given_value", "default", "message"),
    [
        (INT, 2.5, 1, "f is 2.5, but must be a whole number"),
        (INT, True, 1, "f is True, but must be a whole number"),
        (INT, {"low": 3, "high": 1}, 1, "f has low 3 above high 1"),
        (INT, {"low": 1, "high": 4, "step": 0}, 1, "f.step is 0"),
        (INT, 0, 1, "f is 0, but must be above 0"),
        (INT, {"low": 0}, 1, "f is 0, but must be above 0"),
        (SIZES, [1, -2], 1, "f is -2, but must be above 0"),
        (INT, {"lo": 3}, 1, "f.lo is unknown: did you mean 'low'"),
        (FLOAT, "much", 0.1, "f is 'much', but must be a finite number"),
        (FLOAT, float("nan"), 0.1, "but must be a finite number"),
        (FLOAT, {"low": 0.0}, 0.1, "log scale, so low \\(0\\) must be above 0"),
        (FLOAT, {"log": "yes"}, 0.1, "f.log is 'yes', but must be true or false"),
        (FLOAT, [], 0.1, "f is an empty list"),
        (TEXT, "third", "first", "f is 'third': valid names are first, second$"),
        (TEXT, {"low": 1}, "first", "must be a list of some of"),
        (
            MORE,
            "adagrad",
            "adam",
            "f is 'adagrad': did you mean 'adam'. valid names are adam, sgd$",
        ),
        (NONE, -0.1, 0.0, "f is -0.1, but must not be below 0"),
        (NONE, {"low": -1, "high": 1}, 0.0, "f is -1.0, but must not be below 0"),
        (NONE, {"high": 1, "log": True}, 0.0, "log scale, so low \\(0\\) must be above 0"),
        (FLAG, 1, False, "f is 1, but must be one of"),
        (RATES, {"groups": "layers"}, RateVector(), "did you mean 'layer'"),
        (RATES, {"modes": []}, RateVector(), "f.modes is empty"),
        (RATES, {"modes": ["fixed"]}, RateVector(), "f.modes holds 'fixed'"),
        (RATES, {"forms": "produkt"}, RateVector(), "did you mean 'product'"),
        (RATES, {"low": 1.0, "high": 0.1}, RateVector(), "swap"),
        (RATES, {"high": "big"}, RateVector(), "f.high is 'big'"),
        (RATES, "auto", RateVector(), "must be a rate, rows of rates, or a mapping"),
        (RATES, [[0.1], [0.1, 0.2]], RateVector(), "one row of numbers a step"),
        (RATES, [], RateVector(), "one row of numbers a step"),
        (RATES, [[0.1, -0.2]], RateVector(), "holds -0.2, but a rate must be"),
    ],
)
def test_mistakes_are_named(domain: Any, given_value: Any, default: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        override("f", domain, given_value, default)


def test_rates_may_be_fixed_or_restricted() -> None:
    assert override("f", RATES, 0.4, None) == Fixed(RateVector("fixed", "scalar", ((0.4,),)))
    rows = override("f", RATES, [[0.1, 0.2], [0.3, 0.4]], None)
    assert rows == Fixed(RateVector("fixed", "layer", ((0.1, 0.2), (0.3, 0.4))))
    restricted = override("f", RATES, {"groups": "layer", "modes": ["searched"], "high": 0.5}, None)
    assert restricted == Rates(1e-3, 0.5, ("layer",), ("searched",))
    modes = override("f", RATES, {"modes": ["searched", "refined", "learned"]}, None)
    assert modes == Rates(1e-3, 1.0, modes=("searched", "refined", "learned"))
    few = override("f", RATES, {"forms": ["product", "low_rank"]}, None)
    assert few == Rates(1e-3, 1.0, forms=("product", "low_rank"))


def test_what_isnt_proposed_by_itself_can_be_asked_for() -> None:
    assert override("f", MORE, ["adam", "sgd"], "adam") == Choice(("adam", "sgd"))
    assert override("f", MORE, "sgd", "adam") == Fixed("sgd")
    log = {"low": 1e-6, "high": 1e-2, "log": True}
    assert override("f", NONE, log, 0.0) == Float(1e-6, 1e-2, log=True)
    assert override("f", Int(0, 0), {"high": 10}, 0) == Int(0, 10)


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (FLOAT, "[0.001, 1] (log)"),
        (INT, "1 … 5"),
        (Int(2, 8, step=2), "2 … 8 step 2"),
        (TEXT, "{first, second}"),
        (RATES, "[0.001, 1] (log)"),
        (MORE, "{adam} (or sgd)"),
        (NONE, "= 0"),
        (Int(3, 3), "= 3"),
        (Fixed(3), "= 3"),
    ],
)
def test_domains_are_described(domain: Any, text: str) -> None:
    assert describe(domain) == text
