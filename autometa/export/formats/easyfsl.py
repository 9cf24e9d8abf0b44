"""easyfsl: a project whose model is one of easyfsl's few-shot classifiers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from autometa.export.formats.base import Format, Winner
from autometa.export.formats.project import (
    check_learner,
    network_files,
    readme,
    settings_of,
    settings_source,
    template,
    training_losses,
    write_project,
)
from autometa.learners.base import Params, prefixed, under
from autometa.learners.protonet import LOG_SCALE


class EasyFsl(Format):
    """``method.py`` (the classifier), ``train.py``, the network as source, the weights."""

    summary: ClassVar[str] = "a few-shot classifier of easyfsl, with its training"
    needs: ClassVar[tuple[str, ...]] = ("easyfsl>=1.5", "torch", "safetensors")

    def losses(self, winner: Winner) -> list[str]:
        return training_losses(winner)

    def check(self, winner: Winner) -> None:
        check_learner(winner, "easyfsl", METHODS)

    def write(self, winner: Winner, into: Path) -> None:
        self.check(winner)
        own, weights = METHODS[winner.spec.learner]
        method, settings = own(winner.learner.hyper)
        files = {
            "README.md": readme(winner, "easyfsl", self.losses(winner)),
            "settings.py": settings_source(settings_of(winner, ("backbone.",)) | settings),
            "method.py": template(f"easyfsl_{method}.py"),
            **{name: template(name) for name in ("episodes.py", "outer.py")},
            "train.py": template("easyfsl_train.py"),
            **network_files(winner),
        }
        write_project(into, files, weights(winner.params))


def _protonet(hyper: Any) -> tuple[str, dict[str, Any]]:
    method = "cosine" if hyper.distance == "cosine" else "protonet"
    scale = {"SCALE": hyper.scale, "LEARN_SCALE": hyper.learn_scale}
    return method, {"LOSS": "cross_entropy"} | scale


def _matching(hyper: Any) -> tuple[str, dict[str, Any]]:
    return "matching", {
        "LOSS": "cross_entropy",
        "SCALE": hyper.scale,
        "FULL_CONTEXT": hyper.full_context,
        "PROCESSING_STEPS": hyper.processing_steps,
    }


def _relation(hyper: Any) -> tuple[str, dict[str, Any]]:
    sizes = {"WIDTH": hyper.width, "HIDDEN": hyper.hidden}
    return "relation", {"LOSS": hyper.loss_type} | sizes


def _backbone(params: Params) -> Params:
    return prefixed("backbone", under("encoder", params))


def _protonet_weights(params: Params) -> Params:
    return _backbone(params) | {LOG_SCALE: params[LOG_SCALE]}


def _matching_weights(params: Params) -> Params:
    """The two cells that read the support set are one bidirectional LSTM of torch's."""
    weights = _backbone(params)
    for cell, suffix in (("forward", "_l0"), ("backward", "_l0_reverse")):
        own = {f"{name}{suffix}": value for name, value in under(cell, params).items()}
        weights |= prefixed("support_features_encoder", own)
    return weights | prefixed("query_features_encoding_cell", under("attention", params))


def _relation_weights(params: Params) -> Params:
    encoder = prefixed("backbone.encoder", under("encoder", params))
    return encoder | prefixed("relation_module", under("relation", params))


Own = Callable[[Any], tuple[str, dict[str, Any]]]
Weights = Callable[[Params], Params]

# learner → its file in templates/ with its own settings, its weights under easyfsl's names
METHODS: dict[str, tuple[Own, Weights]] = {
    "protonet": (_protonet, _protonet_weights),
    "matching": (_matching, _matching_weights),
    "relation": (_relation, _relation_weights),
}
