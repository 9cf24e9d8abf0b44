"""learn2learn: a project that trains and tests the winner with learn2learn's own methods."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from autometa.export.formats.base import Format, Winner
from autometa.export.formats.gradient_settings import (
    metasgd_settings,
    protonet_settings,
    rate_losses,
    single_rate,
    steps_of,
)
from autometa.export.formats.project import (
    TRAINING,
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
from autometa.learners.inner_loop import INNER_LR, weights_of
from autometa.learners.metasgd import RATES
from autometa.learners.protonet import LOG_SCALE


class Learn2Learn(Format):
    """``train.py``, ``method.py`` (learn2learn at work), the network as source, the weights."""

    summary: ClassVar[str] = "a project that trains and tests with learn2learn"
    needs: ClassVar[tuple[str, ...]] = ("learn2learn==0.2.0", "torch", "safetensors")

    def losses(self, winner: Winner) -> list[str]:
        rated = INNER_LR in winner.params
        rates = rate_losses(winner, "learn2learn's MAML") if rated else []
        return rates + training_losses(winner)

    def check(self, winner: Winner) -> None:
        check_learner(winner, "learn2learn", METHODS)

    def write(self, winner: Winner, into: Path) -> None:
        self.check(winner)
        method, own, weights = METHODS[winner.spec.learner]
        settings = settings_of(winner, DECAYED[method]) | own(winner)
        files = {
            "README.md": readme(winner, "learn2learn", self.losses(winner)),
            "settings.py": settings_source(settings),
            "method.py": template(f"learn2learn_{method}.py"),
            **{name: template(name) for name in TRAINING},
            **network_files(winner),
        }
        write_project(into, files, weights(winner.params))


def _rated(winner: Winner) -> dict[str, Any]:
    return steps_of(winner) | {"INNER_LR": single_rate(winner)}


def _maml_weights(params: Params) -> Params:
    return prefixed("maml.module", weights_of(params))


def _anil_weights(params: Params) -> Params:
    encoder, head = (prefixed(name, under(part, params)) for name, part in ANIL_PARTS)
    return encoder | head


def _metasgd_weights(params: Params) -> Params:
    """learn2learn has the rates in a list, in the order of the network's parameters."""
    network = weights_of(params)
    rates = {f"lrs.{i}": params[f"{RATES}.{name}"] for i, name in enumerate(network)}
    return prefixed("metasgd", prefixed("module", network) | rates)


def _protonet_weights(params: Params) -> Params:
    return weights_of(params) | {LOG_SCALE: params[LOG_SCALE]}


# How the names of the network's weights begin in a method's file.
DECAYED = {
    "maml": ("maml.module.",),
    "anil": ("encoder.", "head."),
    "metasgd": ("metasgd.module.",),
    "protonet": ("encoder.",),
}
ANIL_PARTS = (("encoder", "encoder"), ("head.module", "head"))

Settings = Callable[[Winner], dict[str, Any]]
Weights = Callable[[Params], Params]

# learner → its file in templates/, its own settings, its weights under learn2learn's names
METHODS: dict[str, tuple[str, Settings, Weights]] = {
    "maml": ("maml", _rated, _maml_weights),
    "fomaml": ("maml", _rated, _maml_weights),
    "anil": ("anil", _rated, _anil_weights),
    "metasgd": ("metasgd", metasgd_settings, _metasgd_weights),
    "protonet": ("protonet", protonet_settings, _protonet_weights),
}
