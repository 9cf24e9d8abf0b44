"""The contract of a backbone space: labelled choices in, a plain torch module out."""

from __future__ import annotations

import copy
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import ClassVar

import torch
from torch import nn

from autometa.errors import ConfigError, suggestion

Option = bool | int | float | str
Sample = Mapping[str, Option]
Shape = tuple[int, ...]

LONGEST_TIMING_S = 0.5


@dataclass(frozen=True)
class Condition:
    """What an earlier label must be for another to matter.

    Attributes:
        label: The earlier label.
        holds: Whether one of its options will do.
        told: The same in words: ``depth ≥ 3``.
    """

    label: str
    holds: Callable[[Option], bool]
    told: str

    @classmethod
    def at_least(cls, label: str, least: int) -> Condition:
        return cls(label, lambda option: int(option) >= least, f"{label} ≥ {least}")


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

    def condition(self, label: str) -> Condition | None:
        """When a label matters; None: always. What it depends on may have a condition too.

        Labels such as ``conv4/kernel`` belong to the fourth block, which only deep samples build.
        """
        block = re.match(r"[a-z]+(\d+)/", label)
        return Condition.at_least("depth", int(block.group(1))) if block else None

    def active(self, label: str, sample: Sample) -> bool:
        """Whether a label matters given those decided before it."""
        needed = self.condition(label)
        if needed is None:
            return True
        known = needed.label in sample and self.active(needed.label, sample)
        return known and needed.holds(sample[needed.label])

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
    """

    module: nn.Module
    in_shape: Shape
    features: int
    parameters: int

    @cached_property
    def macs(self) -> int:
        """Multiply–accumulates of one forward pass of one input."""
        # Counting takes torch over a second when it is first done: not where it isn't asked for.
        from torch.utils.flop_counter import FlopCounterMode

        with FlopCounterMode(display=False) as counter, torch.no_grad():
            self.module(torch.empty(1, *self.in_shape, device="meta"))
        return int(counter.get_total_flops()) // 2

    @property
    def parameter_names(self) -> list[str]:
        return [name for name, _ in self.module.named_parameters()]

    def latency_ms(self, device: torch.device | str = "cpu") -> float:
        """Milliseconds of one forward pass of one input, timed here and now, to the microsecond.

        The median of several passes on one thread after warm-up, with random weights. It depends
        on the machine, and on what else that is doing.
        """
        from torch.utils.benchmark import Timer

        module = copy.deepcopy(self.module).to_empty(device=device)
        generator = torch.Generator(device).manual_seed(0)
        with torch.inference_mode():
            for parameter in module.parameters():
                parameter.normal_(0.0, 0.1, generator=generator)
            x = torch.rand(1, *self.in_shape, device=device, generator=generator)
            timer = Timer("module(x)", globals={"module": module, "x": x}, num_threads=1)
            timing = timer.adaptive_autorange(max_run_time=LONGEST_TIMING_S)
        return round(1e3 * float(timing.median), 3)


def measured(module: nn.Module, in_shape: Shape) -> Backbone:
    """Parameters and embedding length of a network on the meta device."""
    with torch.no_grad():
        output = module(torch.empty(1, *in_shape, device="meta"))
    return Backbone(
        module,
        in_shape,
        features=output.shape[1],
        parameters=sum(p.numel() for p in module.parameters()),
    )
