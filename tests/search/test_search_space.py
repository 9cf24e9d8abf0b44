"""The space as define-by-run: conditional, stable in name, within its domains, JSON throughout."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Sequence
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autometa.backbones import BACKBONES
from autometa.config import parse_config
from autometa.errors import ConfigError
from autometa.learners.hyper_json import from_json
from autometa.learners.maml import MAML, MAMLHyper
from autometa.search.checks import check_limits
from autometa.search.space import Candidate, RandomSuggest, SearchSpace, build_space, rows

IMAGE = (1, 28, 28)


def space_of(**space: Any) -> SearchSpace:
    return build_space(parse_config({"space": space}).space, IMAGE, "classification")


class Recorder:
    """A ``Suggest`` that draws with hypothesis and remembers every name and domain."""

    def __init__(self, data: st.DataObject) -> None:
        self.data = data
        self.seen: dict[str, tuple[Any, ...]] = {}

    def suggest_float(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self.seen[name] = (low, high, log)
        return self.data.draw(st.floats(low, high), label=name)

    def suggest_int(
        self, name: str, low: int, high: int, *, log: bool = False, step: int = 1
    ) -> int:
        self.seen[name] = (low, high, log, step)
        return self.data.draw(st.integers(0, (high - low) // step), label=name) * step + low

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        self.seen[name] = tuple(choices)
        return self.data.draw(st.sampled_from(list(choices)), label=name)


SPACE = space_of(learners=["maml", "protonet"], backbones=["conv"])


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_every_candidate_is_valid_and_only_active_parameters_are_suggested(
    data: st.DataObject,
) -> None:
    trial = Recorder(data)
    candidate = SPACE.sample(trial)
    assert Candidate(**json.loads(json.dumps(vars(candidate)))) == candidate
    BACKBONES.load("conv")().check(candidate.architecture, IMAGE)
    prefixes = {name.split(".")[0] for name in trial.seen} - {"learner", "backbone"}
    assert prefixes == {candidate.learner, "conv"}
    depth = candidate.architecture["depth"]
    blocks = {label.split("/")[0] for label in candidate.architecture if "/" in label}
    assert blocks == {f"conv{i}" for i in range(1, int(depth) + 1)}
    if candidate.learner == "maml":
        check_rates(candidate, trial.seen)


def check_rates(candidate: Candidate, seen: dict[str, Any]) -> None:
    """The vector has an entry a step and group, or one initial value where it is learned."""
    hyper = from_json(MAMLHyper, candidate.hyper)
    rates, depth = hyper.inner_lr, int(candidate.architecture["depth"])
    own = {name for name in seen if name.startswith("maml.inner_lr")}
    numbers = own - {"maml.inner_lr.mode", "maml.inner_lr.groups"}
    if rates.mode == "learned":
        assert numbers == {"maml.inner_lr.init"}
        return
    assert rates.mode == "searched"
    layers = [*(f"conv{i}" for i in range(1, depth + 1)), "head"]
    if rates.groups == "scalar":
        columns = ["all"]
    elif rates.groups == "layer":
        columns = layers
    else:
        columns = sorted(name.partition("[")[2][:-1] for name in numbers if "[" in name)
        assert {name.split(".")[0] for name in columns} == set(layers)
        assert {"head.weight", "head.bias", "conv1.norm.weight"} <= set(columns)
    scales = {f"maml.inner_lr.scale[{c}]" for c in columns} if columns != ["all"] else set()
    decay = {"maml.inner_lr.decay"} if hyper.inner_steps > 1 else set()
    assert numbers == {"maml.inner_lr.base"} | scales | decay
    assert len(rates.values) == hyper.inner_steps
    assert all(len(row) == len(columns) for row in rates.values)


def test_optuna_samples_it_with_stable_distributions() -> None:
    """One Optuna study takes every candidate: no name ever changes its distribution."""
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(40):
            trial = study.ask()
            SPACE.sample(trial)
            study.tell(trial, 0.0)
    seen: dict[str, set[str]] = {}
    for trial in study.get_trials(deepcopy=False):
        for name, distribution in trial.distributions.items():
            seen.setdefault(name, set()).add(repr(distribution))
    assert {"learner", "conv.depth", "maml.inner_steps"} <= seen.keys()
    assert {name: kinds for name, kinds in seen.items() if len(kinds) > 1} == {}


def test_a_single_option_is_no_dimension() -> None:
    space = space_of(
        learners={"protonet": {"augment": ["none"], "meta_lr": 0.001}},
        backbones={"conv": {"*/kernel": 3, "depth": 3, "width": [16, 32]}},
    )
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial = study.ask()
    candidate = space.sample(trial)
    assert candidate.hyper["meta_lr"] == 0.001
    assert candidate.architecture["conv2/kernel"] == 3
    assert not {"learner", "backbone", "conv.depth", "protonet.augment"} & set(trial.params)
    assert "conv.width" in trial.params


ON_REQUEST = {
    "meta_optimizer": ["adam", "momentum"],
    "meta_weight_decay": {"low": 1e-6, "high": 1e-3, "log": True},
    "evaluation_steps": {"low": 1, "high": 10},
    "order": ["second", "annealed"],
    "first_order_share": {"low": 0.1, "high": 0.9},
}


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_what_a_study_asks_for_is_searched(data: st.DataObject) -> None:
    space = space_of(learners={"maml": ON_REQUEST}, backbones=["conv4"])
    trial = Recorder(data)
    hyper = from_json(MAMLHyper, space.sample(trial).hyper)
    assert {f"maml.{field}" for field in ON_REQUEST} <= trial.seen.keys()
    assert hyper.meta_optimizer in ("adam", "momentum")
    assert hyper.order in ("second", "annealed")
    assert 1e-6 <= hyper.meta_weight_decay <= 1e-3
    assert 1 <= hyper.evaluation_steps <= 10
    assert 0.1 <= hyper.first_order_share <= 0.9
    assert len(hyper.inner_lr.values) in (1, hyper.inner_steps), "rows are of meta-training's steps"


EVERY_VECTOR = {
    "modes": ["searched", "learned", "refined"],
    "forms": ["product", "low_rank", "entries"],
    "low": 0.01,
    "high": 0.5,
}


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_rates_of_every_mode_form_and_group_fit_the_network(data: st.DataObject) -> None:
    space = space_of(learners={"maml": {"inner_lr": EVERY_VECTOR}}, backbones=["conv4"])
    candidate = space.sample(Recorder(data))
    hyper = from_json(MAMLHyper, candidate.hyper)
    built = BACKBONES.load("conv4")().build(candidate.architecture, IMAGE)
    names = MAML.fast_parameters(built.parameter_names)
    rates = hyper.inner_lr.tensor(hyper.inner_steps, names)
    columns = {"scalar": 1, "layer": 5, "parameter": len(names)}[hyper.inner_lr.groups]
    assert rates.shape == (hyper.inner_steps, columns)
    own = [rate for row in hyper.inner_lr.values for rate in row]
    assert all(0.01 <= rate <= 0.5 for rate in own)
    assert len(own) == (1 if hyper.inner_lr.mode == "learned" else hyper.inner_steps * columns)


@settings(max_examples=20, deadline=None)
@given(data=st.data())
def test_what_it_does_not_ask_for_is_no_dimension(data: st.DataObject) -> None:
    trial = Recorder(data)
    hyper = space_of(learners=["maml"], backbones=["conv4"]).sample(trial).hyper
    silent = set(ON_REQUEST) - {"order"}
    assert not {f"maml.{field}" for field in silent} & trial.seen.keys()
    assert {field: hyper[field] for field in silent} == {
        field: getattr(MAMLHyper(), field) for field in silent
    }
    assert trial.seen["maml.order"] == ("first", "second")
    assert trial.seen["maml.inner_lr.mode"] == ("searched", "learned")


def test_limits_refuse_what_is_too_large() -> None:
    space = space_of(backbones={"conv": {"depth": 4, "width": 64, "*/kernel": 5}})
    trial = optuna.create_study().ask()
    candidate = space.sample(trial)
    limits = parse_config({"space": {"limits": {"max_parameters": 1000}}}).space.limits
    assert "exceed max_parameters 1,000" in str(candidate.excess(limits))
    assert candidate.excess(parse_config({}).space.limits) is None


def test_latency_is_limited_and_measured_only_where_that_is_asked_for() -> None:
    def sampled(**limits: float) -> tuple[Candidate, str | None]:
        space = space_of(learners=["nearest"], backbones={"conv4": {}}, limits=limits)
        candidate = space.sample(RandomSuggest(0))
        return candidate, candidate.excess(space.limits)

    unlimited, _ = sampled()
    assert unlimited.latency_ms is None
    slow, excess = sampled(max_latency_ms=1e-6)
    assert excess == f"latency_ms {slow.latency_ms:,} exceed max_latency_ms 1e-06"
    fast, excess = sampled(max_latency_ms=1e9)
    assert fast.latency_ms is not None
    assert excess is None
    large, excess = sampled(max_latency_ms=1e9, max_macs=1000)
    assert large.latency_ms is None, "what other limits refuse needn't be timed"
    assert "exceed max_macs" in str(excess)


def test_latency_limits_that_nothing_meets_are_refused() -> None:
    limits = {"max_latency_ms": 1e-6}
    space = space_of(learners=["nearest"], backbones={"conv4": {"width": 32}}, limits=limits)
    with pytest.raises(ConfigError, match=r"refuse .*; one of [\d,]+ takes [\d.]+ ms\): raise"):
        check_limits(space)


@pytest.mark.parametrize("limit", [0, -1, "fast", float("inf"), float("nan")])
def test_a_latency_limit_is_a_positive_number(limit: Any) -> None:
    with pytest.raises(ConfigError, match=r"max_latency_ms.* is .*but .*"):
        parse_config({"space": {"limits": {"max_latency_ms": limit}}})


CELLS = space_of(learners=["nearest"], backbones=["cell"])


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_cells_are_valid_and_only_edges_that_exist_are_suggested(data: st.DataObject) -> None:
    trial = Recorder(data)
    sample = CELLS.sample(trial).architecture
    BACKBONES.load("cell")().check(sample, IMAGE)
    for cell in ("normal", "reduce"):
        for node in range(2, 6):
            exists = node < 2 + int(sample["nodes"])
            for edge in "01":
                assert (f"cell.{cell}/op_{node}_{edge}" in trial.seen) == exists
                reads = exists and sample[f"{cell}/op_{node}_{edge}"] != "none"
                assert (f"cell.{cell}/input_{node}_{edge}" in trial.seen) == reads


def test_the_table_tells_when_an_edge_matters() -> None:
    active = {name: told for name, _, told in rows(CELLS)}
    assert active["cell.reduce/input_4_1"] == "backbone = cell, nodes ≥ 3, reduce/op_4_1 ≠ none"
    narrow = space_of(learners=["nearest"], backbones={"cell": {"nodes": 2, "*/op_3_1": "none"}})
    listed = {name for name, _, _ in rows(narrow)}
    assert "cell.normal/op_3_0" in listed
    assert not listed & {"cell.normal/op_4_0", "cell.normal/input_3_1"}


@pytest.mark.parametrize(
    ("space", "message"),
    [
        ({"learners": ["mamll"]}, "learner 'mamll' is unknown: did you mean 'maml'"),
        ({"backbones": ["convv"]}, "backbone 'convv' is unknown: did you mean 'conv'"),
        ({"backbones": ["mlp"]}, "backbone 'mlp' reads inputs of 1 dimensions"),
        ({"learners": {"maml": {"inner_stps": 3}}}, "did you mean 'inner_steps'"),
        ({"backbones": {"conv": {"dept": [3]}}}, "fits no label: did you mean 'depth'"),
        ({"backbones": {"conv": {"depth": [9]}}}, "is 9, but must be some of"),
        (
            {"learners": {"maml": {"first_order_share": 1.5}}},
            r"^space.learners.maml.first_order_share is 1.5, but must be in \[0, 1\]",
        ),
        (
            {"learners": {"mamlpp": {"multi_step_share": {"low": 0.1, "high": 2.0}}}},
            r"^space.learners.mamlpp.multi_step_share is 2.0, but must be in",
        ),
        ({"learners": {"maml": {"evaluation_steps": -1}}}, "is -1, but must not be below 0"),
        (
            {"learners": {"maml": {"meta_optimizer": "adagrad"}}},
            "is 'adagrad': did you mean 'adam'. valid names are adam, adamw",
        ),
        ({"learners": {"maml": {"inner_lr": {"modes": "refine"}}}}, "did you mean 'refined'"),
        ({"learners": {"maml": {"meta_lr": {"low": 1.0, "high": 0.1}}}}, "low 1 above high 0.1"),
    ],
)
def test_mistakes_are_named(space: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        space_of(**space)


def test_a_learner_that_cannot_regress_is_refused_when_the_configuration_is_read() -> None:
    config = parse_config({"space": {"learners": ["protonet"], "backbones": ["mlp"]}}).space
    with pytest.raises(ConfigError, match="'protonet' can't do regression"):
        build_space(config, (1,), "regression")


def test_the_table_names_what_is_sampled() -> None:
    """Every dimension that Optuna sees stands in the dry run's table."""
    listed = {name for name, _, _ in rows(SPACE)}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=1))
    for _ in range(20):
        trial = study.ask()
        SPACE.sample(trial)
        for name in trial.params:
            assert re.sub(r"\.scale\[.+\]", ".scale[group]", name) in listed
        study.tell(trial, 0.0)
