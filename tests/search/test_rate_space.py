"""Forms of a searched learning-rate vector: shape, bounds, and how many numbers they take."""

from __future__ import annotations

import math

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autometa.config import parse_config
from autometa.learners.domains import Rates
from autometa.learners.rates import FORMS, RateVector, group_names
from autometa.search.rate_space import dimensions, searched_rates
from autometa.search.space import build_space, rows

DOMAIN = Rates(1e-3, 1.0)
PARAMETERS = ("conv1.weight", "conv1.norm.weight", "conv2.weight", "head.weight", "head.bias")
GROUPS = ("scalar", "layer", "parameter")


class Given:
    """A ``SuggestFloat`` that answers by a table, or the middle of a domain, and remembers."""

    def __init__(self, values: dict[str, float]) -> None:
        self.values = values
        self.seen: dict[str, tuple[float, float, bool]] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.seen[name] = (low, high, log)
        return self.values.get(name, math.sqrt(low * high) if log else (low + high) / 2)


def proposed(trial: Given, form: str, groups: str, steps: int) -> RateVector:
    return searched_rates(
        trial, "lr", DOMAIN, form=form, groups=groups, steps=steps, parameters=PARAMETERS
    )


@given(
    form=st.sampled_from(FORMS),
    groups=st.sampled_from(GROUPS),
    steps=st.integers(1, 6),
    draw=st.randoms(use_true_random=False),
)
def test_every_form_gives_a_full_vector_within_the_domain(
    form: str, groups: str, steps: int, draw: object
) -> None:
    class Drawn(Given):
        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            super().suggest_float(name, low, high, log=log)
            return draw.uniform(low, high)  # type: ignore[attr-defined, no-any-return]

    trial = Drawn({})
    vector = proposed(trial, form, groups, steps)
    columns = len(group_names(PARAMETERS, groups))
    assert vector.tensor(steps, PARAMETERS).shape == (steps, columns)
    assert all(DOMAIN.low <= rate <= DOMAIN.high for row in vector.values for rate in row)
    assert len(trial.seen) == dimensions(form, steps, columns)


def test_a_product_is_base_times_decay_times_scale() -> None:
    values = {
        "lr.base": 0.05,
        "lr.decay": 0.5,
        "lr.scale[conv1]": 2.0,
        "lr.scale[conv2]": 1.0,
        "lr.scale[head]": 0.1,
    }
    vector = proposed(Given(values), "product", "layer", 3)
    expected = 0.05 * np.outer([1, 0.5, 0.25], [2, 1, 0.1])
    np.testing.assert_allclose(vector.values, expected.clip(1e-3, 1.0))


def test_a_low_rank_vector_has_a_logarithm_of_rank_one_around_its_base() -> None:
    step, group = [0.5, -0.25], [1.0, 0.2, -0.4]
    values = {"lr.base": 0.03, **{f"lr.step[{s}]": value for s, value in enumerate(step)}}
    values |= {f"lr.group[{c}]": v for c, v in zip(("conv1", "conv2", "head"), group, strict=True)}
    found = np.log10(np.array(proposed(Given(values), "low_rank", "layer", 2).values) / 0.03)
    np.testing.assert_allclose(found, 1.5 * np.outer(step, group), rtol=1e-12)
    assert np.linalg.matrix_rank(found) == 1


@pytest.mark.parametrize("form", FORMS)
def test_names_and_domains_don_t_depend_on_other_values(form: str) -> None:
    """What a shorter vector is made of is a part of what a longer one is made of."""
    seen = {}
    for steps in (2, 4):
        trial = Given({})
        proposed(trial, form, "layer", steps)
        seen[steps] = trial.seen
    assert seen[2].items() <= seen[4].items()


def test_a_study_may_choose_the_form() -> None:
    rates = {"forms": list(FORMS), "groups": "layer", "modes": "searched"}
    space = {"learners": {"maml": {"inner_lr": rates}}, "backbones": {"conv4": {}}}
    found = build_space(parse_config({"space": space}).space, (1, 28, 28), "classification")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    listed = {name for name, _, _ in rows(found)}
    forms = set()
    for _ in range(12):
        trial = study.ask()
        found.sample(trial)
        forms.add(trial.params["maml.inner_lr.form"])
        general = {name.partition("[")[0] for name in trial.params}
        assert general <= {name.partition("[")[0] for name in listed}
        study.tell(trial, 0.0)
    assert forms == set(FORMS)
