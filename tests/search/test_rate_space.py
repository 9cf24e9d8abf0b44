"""Forms of a searched learning-rate vector: shape, bounds, and how many numbers they take."""

from __future__ import annotations

import math
import re

import numpy as np
import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from autometa.config import parse_config
from autometa.learners.domains import Rates
from autometa.learners.rates import RateVector, group_names
from autometa.search.rate_space import FORMS, dimensions, proposed_rates
from autometa.search.space import SearchSpace, build_space, rows

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


def proposed(
    trial: Given, form: str, groups: str, steps: int, mode: str = "searched"
) -> RateVector:
    return proposed_rates(
        trial,
        "lr",
        DOMAIN,
        mode=mode,
        form=form,
        groups=groups,
        steps=steps,
        parameters=PARAMETERS,
    )


@given(
    mode=st.sampled_from(("searched", "refined")),
    form=st.sampled_from(list(FORMS)),
    groups=st.sampled_from(GROUPS),
    steps=st.integers(1, 6),
    draw=st.randoms(use_true_random=False),
)
def test_every_form_gives_a_full_vector_within_the_domain(
    mode: str, form: str, groups: str, steps: int, draw: object
) -> None:
    class Drawn(Given):
        def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
            super().suggest_float(name, low, high, log=log)
            return draw.uniform(low, high)  # type: ignore[attr-defined, no-any-return]

    trial = Drawn({})
    vector = proposed(trial, form, groups, steps, mode)
    assert (vector.mode, vector.groups) == (mode, groups)
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


def space_of(**rates: object) -> SearchSpace:
    space = {"learners": {"maml": {"inner_lr": rates}}, "backbones": {"conv4": {}}}
    return build_space(parse_config({"space": space}).space, (1, 28, 28), "classification")


def general(name: str) -> str:
    """A dimension's name as the table has it: ``lr[2][conv3]`` → ``lr[step][group]``."""
    name = re.sub(r"\[\d+\]\[.*\]", "[step][group]", name)
    name = re.sub(r"\.step\[.*\]", ".step[step]", name)
    return re.sub(r"\.(scale|group)\[.*\]", r".\1[group]", name)


def is_due(when: str, **values: str | None) -> bool:
    """Whether a row of the table is active: ``learner = maml, mode = a or b, form = c``."""
    conditions = (condition.split(" = ") for condition in when.split(", "))
    return all(values.get(what, value) in value.split(" or ") for what, value in conditions)


def test_a_study_may_compare_modes_and_forms() -> None:
    """In one study: names are those of the table, each has one distribution, and is there if due.

    The numbers of a vector that is learned from where the search says are those of a searched one.
    """
    found = space_of(modes=["searched", "learned", "refined"], forms=list(FORMS))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    table = [row for row in rows(found) if row[0].startswith("maml.inner_lr")]
    seen, numbers = set(), dict[tuple[str, ...], set[str]]()
    for _ in range(150):
        trial = study.ask()
        rates = found.sample(trial).hyper["inner_lr"]
        mode, form = trial.params["maml.inner_lr.mode"], trial.params.get("maml.inner_lr.form")
        assert rates["mode"] == mode
        assert (form is None) == (mode == "learned")
        seen.add((mode, form))
        own = {name for name in trial.params if name.startswith("maml.inner_lr")}
        due = {name for name, _, when in table if is_due(when, mode=mode, form=form)}
        assert set(map(general, own)) <= due
        if mode != "learned":
            shape = trial.params["maml.inner_steps"], trial.params["maml.inner_lr.groups"], form
            numbers.setdefault((mode, *map(str, shape)), set()).update(own)
        study.tell(trial, 0.0)
    assert seen == {("learned", None)} | {(m, f) for m in ("searched", "refined") for f in FORMS}
    kinds: dict[str, set[str]] = {}
    for done in study.get_trials(deepcopy=False):
        for name, distribution in done.distributions.items():
            kinds.setdefault(name, set()).add(repr(distribution))
    assert {name for name, each in kinds.items() if len(each) > 1} == set()
    both = [key[1:] for key in numbers if key[0] == "refined" and ("searched", *key[1:]) in numbers]
    assert both
    assert all(numbers["searched", *key] == numbers["refined", *key] for key in both)


def test_who_learns_a_vector_alone_has_one_number_and_no_form() -> None:
    listed = {name: when for name, _, when in rows(space_of(modes="learned", forms="product"))}
    own = {name for name in listed if name.startswith("maml.inner_lr")}
    assert own == {f"maml.inner_lr.{each}" for each in ("mode", "groups", "init")}
    assert listed["maml.inner_lr.init"] == "learner = maml, mode = learned"


@pytest.mark.parametrize("form", FORMS)
def test_the_table_has_each_number_of_a_form_once(form: str) -> None:
    trial = Given({})
    proposed(trial, form, "layer", 3)
    listed = [name for name, _, when in rows(space_of(modes="refined", forms=form)) if form in when]
    assert len(set(listed)) == len(listed)
    assert {general(name.replace("lr", "maml.inner_lr", 1)) for name in trial.seen} == set(listed)
