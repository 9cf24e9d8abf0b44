"""The bundle: a folder that another project copies in, with torch and safetensors alone.

``__init__.py``, ``model.py`` (the network as source, and ``load``), ``learner/`` and ``layers.py``
(our own files, verbatim), ``weights.safetensors``, ``config.yaml``, ``results.json``, a model card.
"""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from string import Template
from typing import Any

from safetensors.torch import save_file

from autometa.backbones import layers
from autometa.config import StudyConfig
from autometa.export.card import model_card
from autometa.export.configuration import render
from autometa.export.formats.base import Winner
from autometa.export.network import layers_used, source_of
from autometa.export.target import put, refuse_existing, written_whole
from autometa.export.vendor import learner_sources, module_of
from autometa.learners.base import CLASSES, CLASSIFICATION, Learner, Params
from autometa.learners.rates import RateVector
from autometa.search.folder import StudyFolder
from autometa.trial import TrialSpec

TEMPLATE = Path(__file__).parent / "template.py.txt"
WEIGHTS = "weights.safetensors"
RESULTS = ("metric", "direction", "winner", "baseline", "selection")
INIT = '"""A meta-learned model: see README.md."""\n\nfrom .model import MetaLearner, load\n\n'


def write_bundle(
    folder: StudyFolder,
    config: StudyConfig,
    result: dict[str, Any],
    target: Path,
    picked: dict[str, Any] | None = None,
) -> Path:
    """Write the bundle of the winner, or of a picked trial; it appears whole or not at all.

    Raises:
        BundleError: The target exists, can't be written, or the model can't be written down.
    """
    refuse_existing(target)
    winner = Winner(folder, config, result, picked or result["winner"])
    return write_files(target, bundle_files(winner), winner.params)


def bundle_files(winner: Winner) -> dict[str, str]:
    """Path in the bundle → text."""
    config, result, entry = winner.config, winner.result, winner.entry
    return {
        **code(winner.learner, winner.in_shape, winner.spec, entry["name"]),
        **record(config, result, entry),
        "README.md": model_card(describe(config, entry), result, entry, winner.learner),
    }


def code(
    learner: Learner[Any],
    in_shape: tuple[int, ...],
    spec: TrialSpec,
    name: str,
    weights: str = WEIGHTS,
) -> dict[str, str]:
    """The Python of a bundle: path → source."""
    return {
        "__init__.py": INIT + '__all__ = ["MetaLearner", "load"]\n',
        "model.py": model_source(learner, in_shape, spec, name, weights),
        "layers.py": inspect.getsource(layers),
        **{f"learner/{name}": text for name, text in learner_sources(type(learner)).items()},
    }


def record(config: StudyConfig, result: dict[str, Any], entry: dict[str, Any]) -> dict[str, str]:
    """``config.yaml`` and ``results.json``: what the model is, and how it did."""
    return {
        "config.yaml": render(describe(config, entry), "yaml"),
        "results.json": json.dumps(figures(result, entry), indent=1) + "\n",
    }


def figures(result: dict[str, Any], entry: dict[str, Any]) -> dict[str, Any]:
    """``results.json``; a picked trial stands beside the winner."""
    found = {key: result[key] for key in RESULTS}
    return found | {"picked": entry} if "picked" in entry else found


def describe(config: StudyConfig, entry: dict[str, Any]) -> dict[str, Any]:
    """A model's configuration: everything one would set to train it again."""
    candidate = entry["candidate"]
    return {
        "name": entry["name"],
        "learner": candidate["learner"],
        "hyper": candidate["hyper"],
        "backbone": candidate["backbone"],
        "architecture": candidate["architecture"],
        "parameters": candidate["parameters"],
        "macs": candidate["macs"],
        **_latency(candidate),
        "training": _training(entry),
        "task": config.task.model_dump(),
        "data": {"name": config.data.name},
    }


def _training(entry: dict[str, Any]) -> dict[str, Any]:
    """How long, with which seed; of a population's winner, what its outer loop was before."""
    candidate = entry["candidate"]
    course = [
        {"until": until, "hyper": {k: v for k, v in hyper.items() if v != candidate["hyper"][k]}}
        for until, hyper in candidate.get("earlier", ())
    ]
    told = {"iterations": entry["spec"]["iterations"], "seed": entry["exported_seed"]}
    return told | ({"earlier": course} if course else {})


def _latency(candidate: dict[str, Any]) -> dict[str, float]:
    """Where the study limits it, it was measured."""
    latency_ms = candidate.get("latency_ms")
    return {} if latency_ms is None else {"latency_ms": latency_ms}


def model_source(
    learner: Learner[Any],
    in_shape: tuple[int, ...],
    spec: TrialSpec,
    name: str,
    weights: str = WEIGHTS,
) -> str:
    """``model.py``, which reads its weights from a file of this name beside it."""
    classes = learner.problem == CLASSIFICATION
    module = module_of(type(learner))
    pixels = "float in [0, 1] (or uint8), " if classes else ""
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(
        title=f"The meta-learned model {name!r}: {type(learner).__name__}.",
        outputs="logits [B, N]" if classes else "predictions [B, D]",
        inputs=f"[B, {', '.join(map(str, in_shape))}], {pixels}the examples of the task.",
        targets="[B], labels 0 … N−1." if classes else f"[B, {spec.ways}], real targets.",
        weights=weights,
        imports=_imports(learner, module),
        learner=type(learner).__name__,
        hyper=repr(learner.hyper),
        input_shape=repr(tuple(in_shape)),
        ways=spec.ways,
        network=source_of(learner.encoder.module).rstrip(),
        features=learner.encoder.features,
        problem=learner.problem,
        classes=f", {learner.train_classes}" if learner.trains_on == CLASSES else "",
    )


def _imports(learner: Learner[Any], module: str) -> str:
    """The bundle's own imports of ``model.py``."""
    own = layers_used(learner.encoder.module)
    names = f"{type(learner).__name__}, {type(learner.hyper).__name__}"
    rated = any(isinstance(value, RateVector) for value in vars(learner.hyper).values())
    lines = [
        *([f"from .layers import {', '.join(own)}"] if own else []),
        "from .learner.base import Encoder",
        f"from .learner.{module} import {names}",
        *(["from .learner.rates import RateVector"] if rated else []),
    ]
    return "\n".join(lines)


def write_files(target: Path, files: dict[str, str], params: Params) -> Path:
    """All files of a bundle, in a temporary folder that is then renamed."""
    with written_whole(target) as into:
        put_files(into, files, params)
    return target


def put_files(into: Path, files: dict[str, str], params: Params, weights: str = WEIGHTS) -> None:
    """The files of a bundle in a folder that is there."""
    put(into, files)
    tensors = {name: value.contiguous() for name, value in params.items()}
    save_file(tensors, into / weights, metadata={"format": "pt"})
