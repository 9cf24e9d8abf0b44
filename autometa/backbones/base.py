"""The contract of a backbone space: labelled choices in, a plain torch module out."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from autometa.errors import ConfigError, suggestion

Option = bool | int | float | str
Sample = Mapping[str, Option]
Shape = tuple[int, ...]


class BackboneSpace(ABC):
    """A family of networks ``[B, *in_shape] → [B, features]``.

    A member's sample is a flat JSON dict (label → option); it alone crosses to another process.
    Parameters are named ``layer.…``: the first part of a name is the layer that a learning-rate
    vector groups by.
    """

    summary: ClassVar[str]
    input_rank: ClassVar[int]

    @abstractmethod
    def choices(self, in_shape: Shape) -> dict[str, tuple[Option, ...]]:
        """Every label of the space with its options, in the order to decide them."""

    @abstractmethod
    def default(self) -> dict[str, Option]:
        """The sample of a published network, for baselines."""

    @abstractmethod
    def network(self, sample: Sample, in_shape: Shape) -> nn.Module:
        """The frozen network, on the device of the context; ``sample`` is valid."""

    def active(self, label: str, sample: Sample) -> bool:
        """Whether a label matters given those decided before it.

        Labels such as ``conv4/kernel`` belong to the fourth block, which only deep samples build.
        """
        block = re.match(r"[a-z]+(\d+)/", label)
        return block is None or int(block.group(1)) <= int(sample["depth"])

    def check(self, sample: Sample, in_shape: Shape) -> None:
        """Refuse a sample that names no network of this space.

        Raises:
            ConfigError: A label is missing, inactive or unknown, or has an unknown option; or the
                inputs have the wrong rank.
        """
        if len(in_shape) != self.input_rank:
            raise ConfigError(
                f"a backbone for inputs of {self.input_rank} dimensions can't read "
                f"data of shape {in_shape}: choose another backbone"
            )
        choices = self.choices(in_shape)
        for label in sample:
            if label not in choices:
                raise ConfigError(f"backbone label {label!r}: {suggestion(label, choices)}")
        for label, options in choices.items():
            if not self.active(label, sample):
                continue
            if label not in sample:
                raise ConfigError(f"backbone label {label!r} is missing: give one of {options}")
            if sample[label] not in options:
                raise ConfigError(
                    f"backbone label {label!r} is {sample[label]!r}, but must be one of {options}"
                )

    def build(self, sample: Sample, in_shape: Shape) -> Backbone:
        """The network of a sample as a skeleton on the meta device, with its measures.

        Raises:
            ConfigError: As :meth:`check`.
        """
        self.check(sample, in_shape)
        with torch.device("meta"):
            return measured(self.network(sample, in_shape), in_shape)


@dataclass(frozen=True)
class Backbone:
    """A network skeleton (parameters on the meta device) and what it costs.

    Attributes:
        features: Length of the embedding.
        parameters: Number of trainable numbers.
        macs: Multiply–accumulates of one forward pass of one input.
    """

    module: nn.Module
    in_shape: Shape
    features: int
    parameters: int
    macs: int

    @property
    def parameter_names(self) -> list[str]:
        return [name for name, _ in self.module.named_parameters()]


def measured(module: nn.Module, in_shape: Shape) -> Backbone:
    """Parameters, MACs and embedding length of a network on the meta device."""
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        output = module(torch.empty(1, *in_shape, device="meta"))
    return Backbone(
        module,
        in_shape,
        features=output.shape[1],
        parameters=sum(p.numel() for p in module.parameters()),
        macs=counter.get_total_flops() // 2,
    )
