"""Winners without a search: a few meta-iterations of a specification, and a result around it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from autometa.backbones.base import Option
from autometa.config import parse_config
from autometa.export.formats.base import Winner
from autometa.learners import LEARNERS
from autometa.learners.base import Hyper
from autometa.learners.hyper_json import to_json
from autometa.search.folder import StudyFolder
from autometa.trial import TrialSpec, train_to_end

IMAGES: dict[str, Any] = {
    "data": {"name": "glyphs", "options": {"image_size": 16, "instances": 6}},
    "task": {"ways": 3, "shots": 1, "queries": 2},
}
SINUSOIDS: dict[str, Any] = {
    "data": {"name": "sinusoid"},
    "task": {"ways": 1, "shots": 5, "queries": 5},
}
SHAPES = {"conv": (1, 16, 16), "mlp": (1,)}
ARCHITECTURES: dict[str, dict[str, Option]] = {
    "conv": {
        "activation": "silu",
        "depth": 2,
        "norm": "batch",
        "pool": "avg",
        "width": 16,
        "conv1/kernel": 3,
        "conv1/operator": "conv",
        "conv1/skip": True,
        "conv2/kernel": 5,
        "conv2/operator": "separable",
        "conv2/skip": False,
    },
    "mlp": {"activation": "tanh", "depth": 2, "linear1/width": 20, "linear2/width": 40},
}


def trained(
    path: Path,
    learner: str,
    backbone: str = "conv",
    hyper: Hyper | None = None,
    *,
    name: str = "study",
) -> Winner:
    """The winner of a study in a folder of its own, after three meta-iterations.

    Args:
        backbone: ``conv`` for 3-way 1-shot images [1, 16, 16], ``mlp`` for sinusoids.
        hyper: The learner's hyper-parameters, or None for the defaults.
    """
    base = SINUSOIDS if backbone == "mlp" else IMAGES
    small = {"budget": {"iterations": 3}, "validation": {"every": 3}, "scheduler": {"grace": 3}}
    config = parse_config({"name": name, "out": str(path)} | base | small)
    spec = TrialSpec(
        learner=learner,
        hyper=to_json(hyper or LEARNERS.load(learner).hyper_type()),
        backbone=backbone,
        architecture=ARCHITECTURES[backbone],
        data=config.data.name,
        data_options=config.data.options,
        task=config.task.model_dump(),
        seed=7,
        iterations=3,
        validate_every=3,
        validation_tasks=2,
    )
    folder = StudyFolder(path)
    train_to_end(spec, folder.checkpoint("winner"))
    result = result_of(spec, folder)
    return Winner(folder, config, result, result["winner"])


def result_of(spec: TrialSpec, folder: StudyFolder) -> dict[str, Any]:
    """``result.json`` with figures that are made up."""
    regression = spec.backbone == "mlp"
    candidate = {
        "learner": spec.learner,
        "hyper": spec.hyper,
        "backbone": spec.backbone,
        "architecture": spec.architecture,
        "parameters": 4321,
        "macs": 1234567,
    }
    return {
        "metric": "mse" if regression else "accuracy",
        "direction": "minimize" if regression else "maximize",
        "winner": {
            "name": f"{spec.learner}-{spec.backbone}-004",
            "candidate": candidate,
            "spec": spec.to_json(),
            "exported_seed": spec.seed,
            "checkpoint": str(folder.checkpoint("winner").relative_to(folder.path)),
            "confirmed": {"mean": 0.671, "ci95": 0.018, "tasks": 150, "seeds": {}},
            "rescored": {"mean": 0.68, "ci95": 0.02, "tasks": 200, "seeds": {"7": 0.69, "8": 0.67}},
            "test": {"mean": 0.803, "ci95": 0.015, "tasks": 600},
        },
        "selection": {
            "runner_up": {
                "name": "maml-conv-001",
                "better": 0.01,
                "ci95": 0.02,
                "probability": 0.8432,
                "tasks": 200,
            }
        },
        "baseline": {
            "candidate": candidate | {"learner": "protonet"},
            "test": {"mean": 0.754, "ci95": 0.016, "tasks": 600},
        },
    }
