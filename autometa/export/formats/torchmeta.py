"""torchmeta: a project in its functional style, which needs torch alone.

torchmeta itself can't be installed beside a current torch.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from autometa.export.formats.base import Format, Winner
from autometa.export.formats.gradient_settings import (
    metasgd_settings,
    protonet_settings,
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
from autometa.learners.inner_loop import INNER_LR, RatedLearner, weights_of
from autometa.learners.metasgd import RATES
from autometa.learners.rates import group_names


class TorchMeta(Format):
    """``train.py``, ``method.py``, ``torchmeta_style.py``, the network as source, the weights."""

    summary: ClassVar[str] = "a project in torchmeta's functional style, with torch alone"
    needs: ClassVar[tuple[str, ...]] = ("torch>=2.0", "safetensors")

    def losses(self, winner: Winner) -> list[str]:
        return training_losses(winner)

    def check(self, winner: Winner) -> None:
        check_learner(winner, "torchmeta", METHODS)

    def write(self, winner: Winner, into: Path) -> None:
        self.check(winner)
        method, decayed, own, weights = METHODS[winner.spec.learner]
        settings = settings_of(winner, (decayed,)) | own(winner)
        files = {
            "README.md": readme(winner, "torchmeta", self.losses(winner)),
            "settings.py": settings_source(settings),
            "method.py": template(f"torchmeta_{method}.py"),
            "torchmeta_style.py": template("torchmeta_style.py"),
            **{name: template(name) for name in TRAINING},
            **network_files(winner),
        }
        write_project(into, files, weights(winner.params))


def _rated(winner: Winner) -> dict[str, Any]:
    """The table of rates is among the weights; these are its shape, and where a training begins."""
    learner = winner.learner
    assert isinstance(learner, RatedLearner)
    vector = learner.hyper.inner_lr
    groups = len(group_names(learner.rated, vector.groups))
    return steps_of(winner) | {
        "RATES_SHAPE": (learner.hyper.inner_steps, groups),
        "INITIAL_RATES": vector.values,
        "LEARN_RATES": vector.is_learned,
        "COLUMNS": learner.columns(vector.groups),
    }


def _rated_weights(params: Params) -> Params:
    return prefixed("model", weights_of(params)) | {INNER_LR: params[INNER_LR]}


def _metasgd_weights(params: Params) -> Params:
    """A parameter of a module may have no dots in its name."""
    rates = {name.replace(".", "/"): value for name, value in under(RATES, params).items()}
    return prefixed("model", weights_of(params)) | prefixed(RATES, rates)


def _as_named(params: Params) -> Params:
    return params


Own = Callable[[Winner], dict[str, Any]]
Weights = Callable[[Params], Params]

# learner → its file in templates/, how names of the network's weights begin there, its own
# settings, its weights under the names of that file
METHODS: dict[str, tuple[str, str, Own, Weights]] = {
    "maml": ("maml", "model.", _rated, _rated_weights),
    "fomaml": ("maml", "model.", _rated, _rated_weights),
    "anil": ("maml", "model.", _rated, _rated_weights),
    "metasgd": ("metasgd", "model.", metasgd_settings, _metasgd_weights),
    "protonet": ("protonet", "encoder.", protonet_settings, _as_named),
}
