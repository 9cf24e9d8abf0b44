"""Config groups compose, in an environment with Hydra alone, to what the winner was."""

from __future__ import annotations

import json
from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
import torch
from clean_place import clean_python, run_there

from autometa.export.bundle import describe
from autometa.export.formats.base import Winner
from autometa.export.formats.hydra import HydraFormat
from autometa.export.write import write_winner
from autometa.testing.formats import FormatTestCase, expected, task_of
from autometa.testing.winners import trained
from autometa.trial import TrialSpec, build_learner

COMPOSE = """
import json
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

made = {}
for name in sorted(path.name for path in Path(".").iterdir() if path.is_dir()):
    with initialize_config_dir(str(Path(name, "conf").absolute()), version_base="1.3"):
        for overrides in OVERRIDES:
            config = compose("config", overrides=overrides)
            made[" ".join([name, *overrides])] = OmegaConf.to_container(config, resolve=True)
print(json.dumps(made))
"""
REFERENCE = "a ${name} of its own"
OVERRIDES: list[list[str]] = [[], ["training.seed=3"], ["learner.hyper.meta_batch=8"]]


class TestHydraFormat(FormatTestCase):
    format = HydraFormat


@pytest.fixture(scope="module")
def winners(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Winner]:
    home = tmp_path_factory.mktemp("won")
    images = trained(home / "images", "protonet")
    return {
        "images": images,
        "numbers": trained(home / "numbers", "maml", "mlp"),
        "reference": replace(images, entry=images.entry | {"name": REFERENCE}),
    }


@pytest.fixture(scope="module")
def composed(
    winners: dict[str, Winner], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, dict[str, Any]]:
    """Winner and overrides → what Hydra composed in another place."""
    python = clean_python(tmp_path_factory.mktemp("hydra"), HydraFormat.needs, ["pyyaml"])
    folder = tmp_path_factory.mktemp("project")
    for name, winner in winners.items():
        write_winner(winner, "hydra", folder / name)
    made: dict[str, Any] = json.loads(
        run_there(python, f"OVERRIDES = {OVERRIDES!r}\n{COMPOSE}", folder)
    )
    return made


@pytest.mark.parametrize("name", ["images", "numbers"])
def test_hydra_composes_what_the_winner_was(
    name: str, composed: dict[str, dict[str, Any]], winners: dict[str, Winner]
) -> None:
    config = deepcopy(composed[name])
    learner, backbone = config.pop("learner"), config.pop("backbone")
    config |= {"learner": learner.pop("name"), "backbone": backbone.pop("name")}
    assert config | learner | backbone == describe(winners[name].config, winners[name].entry)


@pytest.mark.parametrize("name", ["images", "numbers"])
def test_a_learner_built_from_it_predicts_the_same(
    name: str, composed: dict[str, dict[str, Any]], winners: dict[str, Winner]
) -> None:
    """With the weights, which Hydra doesn't have."""
    winner, config = winners[name], composed[name]
    told = {
        "learner": config["learner"]["name"],
        "hyper": config["learner"]["hyper"],
        "backbone": config["backbone"]["name"],
        "architecture": config["backbone"]["architecture"],
        "task": {key: config["task"][key] for key in winner.spec.task},
    }
    learner, _ = build_learner(TrialSpec.from_json(winner.spec.to_json() | told))
    x, y, queries = task_of(winner)
    fast = learner.adapt(winner.params, x, y, winner.spec.ways)
    output = learner.predict(winner.params, fast, queries).detach()
    torch.testing.assert_close(output, expected(winner, (x, y, queries)), rtol=0, atol=0)


def test_overrides_work(composed: dict[str, dict[str, Any]]) -> None:
    assert composed["images training.seed=3"]["training"]["seed"] == 3
    changed = composed["images learner.hyper.meta_batch=8"]["learner"]["hyper"]
    assert changed == composed["images"]["learner"]["hyper"] | {"meta_batch": 8}


def test_text_that_looks_like_a_reference_stays_text(composed: dict[str, dict[str, Any]]) -> None:
    assert composed["reference"]["name"] == REFERENCE
