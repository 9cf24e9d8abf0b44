"""The one place that imports NNI: model spaces as :class:`BackboneSpace` members.

NNI 3.0 wants pytorch_lightning for every ``nni.nas`` import unless its default framework is set to
``"none"`` first, and warns of names in torch's namespace that it doesn't know.
"""

from __future__ import annotations

import warnings
from abc import abstractmethod
from functools import lru_cache
from typing import Any, cast

from torch import nn

from autometa.backbones.base import BackboneSpace, Option, Sample, Shape

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import nni

    nni.set_default_framework("none")
    from nni.mutable import Categorical, ensure_frozen, label_scope
    from nni.nas.nn.pytorch import (
        Cell,
        LayerChoice,
        ModelSpace,
        MutableConv1d,
        MutableConv2d,
        MutableLinear,
        ParametrizedModule,
    )
    from nni.nas.space import current_model, model_context

__all__ = [
    "Cell",
    "LayerChoice",
    "ModelSpace",
    "MutableConv1d",
    "MutableConv2d",
    "MutableLinear",
    "NNISpace",
    "ParametrizedModule",
    "RebuiltSpace",
    "choice",
    "frozen",
    "label_scope",
    "passed_over",
]


def choice(label: str, options: list[Any]) -> Any:
    """A labelled NNI choice."""
    return nni.choice(label, options)


def frozen(mutable: Any, searching: Any) -> Any:
    """The chosen value while a sample is being built, ``searching`` while the space is."""
    return searching if current_model() is None else ensure_frozen(mutable)


def passed_over(label: str, option: Option) -> bool:
    """Whether a sample that has another option of a label is being built."""
    sample = current_model()
    return sample is not None and sample[label] != option


class RebuiltSpace(ModelSpace, disable_init_wrapper=True):  # type: ignore[call-arg, misc]
    """A model space that freezes by running its constructor on the sample."""

    def freeze(self, sample: dict[str, Any]) -> nn.Module:
        with model_context(sample):
            return cast(nn.Module, type(self)(*self.trace_args, **self.trace_kwargs))


class NNISpace(BackboneSpace):
    """A backbone space whose networks are those of an NNI model space."""

    @abstractmethod
    def model_space(self, in_shape: Shape) -> ModelSpace:
        """A fresh model space, or within NNI's model context the network of its sample."""

    def choices(self, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
        return dict(_options(self, in_shape))

    def network(self, sample: Sample, in_shape: Shape) -> nn.Module:
        with model_context(self.nni_sample(sample)):
            return cast(nn.Module, self.model_space(in_shape))

    def nni_sample(self, sample: Sample) -> dict[str, Any]:
        """A sample as NNI wants it."""
        return dict(sample)


@lru_cache(maxsize=64)
def _options(space: NNISpace, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
    """A space's labels; NNI builds every network's parts to find them."""
    domains = space.model_space(in_shape).simplify()
    # NNI's labels are strings that carry lists along.
    options = {str(label): tuple(cast(Categorical, d).values) for label, d in domains.items()}
    return dict(sorted(options.items(), key=lambda item: ("/" in item[0], item[0])))
