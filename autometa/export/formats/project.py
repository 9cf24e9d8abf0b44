"""What the formats that are small projects share: settings, the network, training, a README.

The files in ``templates/`` are written as they stand; what differs from winner to winner is in
``settings.py``, ``network.py`` and the weights.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Mapping
from pathlib import Path
from string import Template
from typing import Any

from safetensors.torch import save_file

import autometa
from autometa.backbones import layers
from autometa.errors import BundleError
from autometa.export.formats.base import Winner
from autometa.export.network import layers_used, source_of
from autometa.learners.base import CLASSIFICATION, Params
from autometa.trial import dataset, training_shape

TEMPLATES = Path(__file__).parent / "templates"
TRAINING = ("episodes.py", "outer.py", "train.py")


def template(name: str) -> str:
    """The text of ``templates/<name>.txt``."""
    return (TEMPLATES / f"{name}.txt").read_text(encoding="utf-8")


def check_learner(winner: Winner, library: str, known: Collection[str]) -> None:
    """Refuse a winner whose learner the library has no method for.

    Raises:
        BundleError: With those that it has one for.
    """
    learner = winner.spec.learner
    if learner not in known:
        *others, last = sorted(known)
        raise BundleError(
            f"learner {learner!r} can't be written for {library}, only {', '.join(others)} and "
            f"{last} can: export it as 'bundle', which takes any learner"
        )


def training_losses(winner: Winner) -> list[str]:
    """What a project's own training wouldn't repeat; the trained weights have it all the same."""
    spec, hyper = winner.spec, winner.learner.hyper
    lost = []
    if hyper.augment != "none":
        lost.append(f"its training images are augmented ({hyper.augment}), the project's aren't")
    if spec.task["within_groups"] or spec.task["train_within_groups"]:
        lost.append("its tasks are each of one group of classes, the project draws from all")
    if spec.earlier:
        lost.append(
            f"its outer loop had other settings until meta-iteration {spec.earlier[-1][0]}, "
            "the project trains with the last"
        )
    if spec.initial:
        lost.append("its training began with weights of a supernet, the project's with random ones")
    return lost


def settings_of(winner: Winner, decayed: tuple[str, ...]) -> dict[str, Any]:
    """Names in ``settings.py`` that every project has.

    Args:
        decayed: How the names of the network's weights begin, which alone decay.
    """
    spec, learner = winner.spec, winner.learner
    hyper = learner.hyper
    return {
        "PROBLEM": learner.problem,
        "INPUT_SHAPE": tuple(winner.in_shape),
        "FEATURES": learner.encoder.features,
        "WAYS": spec.ways,
        "TRAIN_WAYS": training_shape(spec.task, dataset(spec), hyper).ways,
        "SHOTS": spec.task["shots"],
        "QUERIES": spec.task["queries"],
        "ITERATIONS": spec.iterations,
        "META_LR": hyper.meta_lr,
        "META_BATCH": hyper.meta_batch,
        "META_SCHEDULE": hyper.meta_schedule,
        "META_OPTIMIZER": hyper.meta_optimizer,
        "META_WEIGHT_DECAY": hyper.meta_weight_decay,
        "DECAYED": decayed,
    }


MEANINGS = {
    "TRAIN_WAYS": "classes of a task in training",
    "SHOTS": "support examples a class (or a task)",
    "QUERIES": "queries a class (or a task)",
    "ITERATIONS": "of the outer loop",
    "META_BATCH": "tasks of an iteration",
    "META_SCHEDULE": "of the outer rate: constant, cosine or halving",
    "META_OPTIMIZER": "adam, adamw, sgd or momentum",
    "DECAYED": "how the names of what decays begin",
    "EVALUATION_STEPS": "inner steps on a new task",
    "FIRST_ORDER_UNTIL": "part of the training in which inner gradients are constants",
    "SCALE": "factor of the similarities before the softmax",
    "COLUMNS": "parameter: its column in the table of rates",
}


def settings_source(settings: Mapping[str, Any]) -> str:
    """``settings.py``: a line a name, with what it means where the name doesn't tell."""
    lines = [_setting(name, value) for name, value in settings.items()]
    return "\n".join(['"""What is trained, and how."""', "", *lines, ""])


def _setting(name: str, value: Any) -> str:
    meaning, text = MEANINGS.get(name), _literal(value)
    if meaning is None:
        return f"{name} = {text}"
    first, *rest = text.split("\n")
    return "\n".join([f"{name} = {first}  # {meaning}", *rest])


def _literal(value: Any) -> str:
    text = repr(value).replace("'", '"')
    if len(text) < 80 or not isinstance(value, dict):
        return text
    body = "".join(f"    {_literal(key)}: {_literal(each)},\n" for key, each in value.items())
    return "{\n" + body + "}"


def network_files(winner: Winner) -> dict[str, str]:
    """``network.py`` with the class ``Network``, and ``layers.py`` if it uses layers of ours."""
    module = winner.learner.encoder.module
    own = layers_used(module)
    imports = ["import torch"] + [f"from layers import {', '.join(own)}"] * bool(own)
    head = [
        f'"""The backbone of {winner.entry["name"]}, found by autometa."""',
        "",
        *["from __future__ import annotations", ""],
        *[*imports, "from torch import Tensor, nn", "", ""],
    ]
    files = {"network.py": "\n".join(head) + "\n" + source_of(module)}
    return files | ({"layers.py": inspect.getsource(layers)} if own else {})


def readme(winner: Winner, kind: str, lost: list[str], **parts: str) -> str:
    """``README.md`` from ``templates/<kind>.md.txt``.

    Args:
        lost: Clauses of what the format can't express.
    """
    learner = winner.learner
    return Template(template(f"{kind}.md")).substitute(
        name=winner.entry["name"],
        learner=type(learner).__name__,
        paper=learner.paper,
        version=autometa.__version__,
        score=_score(winner),
        serves=_serves(winner),
        shape=", ".join(["B", *map(str, winner.in_shape)]),
        lost=_lost(lost),
        **parts,
    )


def _score(winner: Winner) -> str:
    """A sentence with the score in meta-test, where there is one."""
    score, metric = winner.entry["test"], winner.result["metric"]
    if not score:
        return "It met no meta-test tasks."
    return (
        f"In autometa its meta-test {metric} is {score['mean']:.4f} ± {score['ci95']:.4f} "
        f"(95 %, {score['tasks']} tasks of `{winner.config.data.name}`)."
    )


def _serves(winner: Winner) -> str:
    ways, learner = winner.spec.ways, winner.learner
    if learner.problem != CLASSIFICATION:
        return f"regression to {ways} {'number' if ways == 1 else 'numbers'}"
    return "any number of ways and shots" if learner.any_ways else f"{ways} ways, any shots"


def _lost(lost: list[str]) -> str:
    if not lost:
        return "Nothing of the winner is lost in this form."
    return "\n".join(["What of the winner is lost in this form:", "", *(f"- {x}" for x in lost)])


def write_project(into: Path, files: Mapping[str, str], weights: Params) -> None:
    """Write text files, and ``weights.safetensors``."""
    for name, text in files.items():
        path = into / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
    save_file({k: v.contiguous() for k, v in weights.items()}, into / "weights.safetensors")
