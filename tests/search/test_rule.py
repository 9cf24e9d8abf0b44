"""Rules of ``export --pick``: every rule is read as written, any other text is refused."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from autometa.errors import ConfigError, StudyError
from autometa.search.rule import MEASURES, Best, Smallest, choose, parse_rule
from autometa.search.study import COMPLETE, MAXIMIZE, MINIMIZE, TrialRow

NUMBERS = st.one_of(
    st.integers(0, 10**6).map(str),
    st.decimals(0, 1000, places=3, allow_nan=False).map(lambda number: f"{number:f}"),
)
FACTORS = {"": 1, "k": 1000, "M": 1_000_000}
BOUNDS = st.lists(
    st.tuples(NUMBERS, st.sampled_from(list(FACTORS)), st.sampled_from(list(MEASURES))), max_size=3
)


@given(BOUNDS, st.sampled_from([" ", "  ", " \t"]))
def test_a_best_is_read_as_written(bounds: list[tuple[str, str, str]], space: str) -> None:
    text = " and ".join(f"{number}{factor} {word}" for number, factor, word in bounds)
    rule = parse_rule(f"best under {text}".replace(" ", space) if bounds else "best")
    assert isinstance(rule, Best)
    assert [word for _, word in rule.bounds] == [word for *_, word in bounds]
    for (bound, _), (number, factor, _) in zip(rule.bounds, bounds, strict=True):
        assert bound == pytest.approx(float(number) * FACTORS[factor])


@given(NUMBERS, st.sampled_from([" point", " points", "%", " %"]))
def test_a_smallest_is_read_as_written(number: str, unit: str) -> None:
    assert parse_rule(f"smallest within {number}{unit}") == Smallest(float(number), "%" in unit)


@given(st.text(max_size=40))
def test_any_other_text_is_refused_with_what_would_be_right(text: str) -> None:
    assume(text.split() != ["best"])
    with pytest.raises(ConfigError, match=r"is no rule: write 'best'"):
        parse_rule(text)


@pytest.mark.parametrize(
    "text",
    [
        "best under",
        "best under 50 kparameters",
        "best under k parameters",
        "best under -5 ms",
        "best under 50k parameters,",
        "best under 50k parameters and",
        "best under 50K parameters",
        "best under 5 weights",
        "Best",
        "smallest",
        "smallest within point",
        "smallest within 1 point of it",
        "",
    ],
)
def test_what_is_nearly_a_rule_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="is no rule"):
        parse_rule(text)


def rows(*sizes: int, **measures: float) -> list[TrialRow]:
    return [
        TrialRow(
            number=number,
            name=f"t{number}",
            end=COMPLETE,
            reason="",
            score=None,
            ci95=None,
            iteration=1,
            seconds=0.0,
            candidate={},
            params={},
            curve={},
            measures={"parameters": size, "macs": 10 * size, **measures},
        )
        for number, size in enumerate(sizes)
    ]


def picked(text: str, sizes: list[int], scores: list[float], direction: str = MAXIMIZE) -> int:
    worth = {f"t{number}": score for number, score in enumerate(scores)}
    return choose(parse_rule(text), rows(*sizes), worth, direction).number


SIZES_, ACCURACIES = [500, 400, 300, 200, 100], [0.90, 0.91, 0.905, 0.88, 0.70]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("best", 1),
        ("best under 400 parameters", 2),
        ("best under 401 parameters", 1),
        ("best under 0.25k parameters", 3),
        ("best under 1M parameters and 2k macs", 4),
        ("smallest within 0 points", 1),
        ("smallest within 1 point", 2),
        ("smallest within 3 points", 3),
        ("smallest within 21 points", 4),
    ],
)
def test_rules_choose_what_they_say(text: str, number: int) -> None:
    assert picked(text, SIZES_, ACCURACIES) == number


def test_of_equals_the_first_trial_is_picked() -> None:
    assert picked("best", [5, 5], [0.5, 0.5]) == 0
    assert picked("smallest within 1 point", [5, 5], [0.5, 0.5]) == 0


def test_an_error_is_to_be_low() -> None:
    errors = [0.100, 0.104, 0.2]
    assert picked("best", [3, 2, 1], errors, MINIMIZE) == 0
    assert picked("smallest within 5 %", [3, 2, 1], errors, MINIMIZE) == 1
    assert picked("smallest within 100%", [3, 2, 1], errors, MINIMIZE) == 2


@given(
    st.lists(st.tuples(st.integers(1, 9), st.floats(0, 1)), min_size=1, max_size=8),
    st.integers(0, 100),
)
def test_the_smallest_within_so_many_points_is_within_and_smallest(
    trials: list[tuple[int, float]], points: int
) -> None:
    sizes, scores = [size for size, _ in trials], [score for _, score in trials]
    chosen = picked(f"smallest within {points} points", sizes, scores)
    near = [i for i, score in enumerate(scores) if 100 * (max(scores) - score) <= points + 1e-6]
    assert chosen in near
    surely = [i for i, score in enumerate(scores) if 100 * (max(scores) - score) < points - 1e-6]
    assert all(sizes[chosen] <= sizes[i] for i in surely)


def test_units_that_the_score_does_not_have_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"an error has per cent, so write .*within 5 %"):
        picked("smallest within 1 point", [1], [0.5], MINIMIZE)
    with pytest.raises(ConfigError, match=r"an accuracy has points, so write .*within 1 point"):
        picked("smallest within 1 %", [1], [0.5], MAXIMIZE)


def test_bounds_that_nothing_meets_tell_the_least() -> None:
    with pytest.raises(StudyError, match=r"under 100 parameters \(the least is 2,100\): raise"):
        picked("best under 100 parameters", [2100, 3000], [0.5, 0.6])


def test_what_was_not_measured_cannot_be_bounded() -> None:
    with pytest.raises(StudyError, match=r"bounds ms, .* search with 'adaptation' among the obj"):
        picked("best under 5 ms", [1], [0.5])
    assert choose(parse_rule("best under 5 ms"), rows(1, adaptation=4.0), {"t0": 0.5}, MAXIMIZE)
