"""Tables of a search space: nothing is lost on the way to the terminal, and counts are right."""

from __future__ import annotations

import io
import re
from typing import Any

import optuna
import pytest
from rich.console import Console

from autometa.backbones.base import Option
from autometa.config import load_config, parse_config
from autometa.report.listing import size_estimate, space_table
from autometa.search.space import BackboneChoices, build_space, rows

IMAGE = (1, 28, 28)
FORMS = ["product", "low_rank", "entries"]


@pytest.mark.parametrize("name", ["maml_lr_vectors", "quickstart"])
def test_every_dimension_is_printed_with_its_whole_name(name: str) -> None:
    space = build_space(load_config(name).space, IMAGE, "classification")
    out = io.StringIO()
    Console(file=out, width=200).print(space_table(space))
    printed = [line.split("│")[0].strip() for line in out.getvalue().splitlines()[3:]]
    assert printed == [name for name, _, _ in rows(space)]
    assert "maml.inner_lr.base" in printed


@pytest.mark.parametrize(
    ("learner", "rates", "steps"),
    [
        ("maml", {"modes": ["searched", "learned", "refined"], "forms": FORMS}, [1, 2]),
        ("maml", {"modes": "refined", "forms": "product", "groups": "layer"}, 3),
        ("maml", {"modes": ["searched", "refined"], "forms": ["product", "low_rank"]}, 2),
        ("maml", {"modes": "learned"}, 1),
        ("anil", {"modes": "searched"}, [2, 3]),
    ],
)
def test_the_size_is_that_of_what_is_sampled(
    learner: str, rates: dict[str, Any], steps: int | list[int]
) -> None:
    """As many continuous dimensions as Optuna is asked for, at least and at most."""
    space = {
        "learners": {learner: {"inner_lr": rates, "inner_steps": steps, "meta_lr": 0.01}},
        "backbones": {"conv": {"depth": [2, 3], "*/operator": "conv", "norm": "batch"}},
    }
    config = parse_config({"space": space})
    found = build_space(config.space, IMAGE, "classification")
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    counts = set()
    for _ in range(100):
        trial = study.ask()
        found.sample(trial)
        continuous = optuna.distributions.FloatDistribution
        counts.add(sum(isinstance(each, continuous) for each in trial.distributions.values()))
        study.tell(trial, 0.0)
    text = size_estimate(found, config)
    assert f"with {min(counts)} to {max(counts)} continuous dimensions each" in text, counts


def networks(choices: BackboneChoices) -> int:
    """All samples, label by label."""
    samples: list[dict[str, Option]] = [{}]
    for label, options in choices.options.items():
        samples = [
            grown
            for sample in samples
            for grown in (
                [sample | {label: option} for option in options]
                if choices.space.active(label, sample)
                else [sample]
            )
        ]
    return len(samples)


FEW_EDGES = {
    "width": 8,
    "*/op_3_*": "skip_connect",
    "*/op_2_0": "skip_connect",
    "*/input_3_*": 0,
    "*/input_2_0": 0,
    "reduce/input_2_1": 0,
}
FEW_BLOCKS = {"norm": "batch", "activation": "relu", "pool": "max", "*/operator": "conv"}


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("resnet", {}),
        ("cell", FEW_EDGES | {"nodes": [2, 3], "*/op_4_*": "sep_conv_3x3", "normal/input_2_1": 0}),
        ("cell", FEW_EDGES | {"nodes": 2}),
        ("conv", FEW_BLOCKS | {"depth": [2, 3], "width": 16}),
    ],
)
def test_architectures_are_counted(name: str, options: dict[str, Any]) -> None:
    config = parse_config({"space": {"learners": ["nearest"], "backbones": {name: options}}})
    space = build_space(config.space, IMAGE, "classification")
    told = re.search(r"about ([\d,]+) architectures", size_estimate(space, config))
    assert told is not None
    assert int(told[1].replace(",", "")) == float(f"{networks(space.backbones[name]):.1g}")
