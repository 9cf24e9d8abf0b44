"""The weights of a super-net: a dictionary of largest tensors, of which each network has slices.

A network of fewer channels has the first ones, as in J. Yu et al., "Slimmable Neural Networks",
ICLR 2019, https://arxiv.org/abs/1812.08928; one of smaller kernels their centres, as in H. Cai et
al., "Once-for-All", ICLR 2020, https://arxiv.org/abs/1908.09791, but without its linear map between
the two. Layers share where they have the same place and kind, so operators that differ in kind have
weights of their own; backbones know nothing of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import nn
from torch.nn.modules.conv import _ConvNd

from autometa.learners.base import Params, initial_parameters


def kind(layer: nn.Module) -> str:
    """What a layer does, apart from its size and stride: only layers of one kind share."""
    parts = [type(layer).__name__]
    if isinstance(layer, _ConvNd):
        parts += ["grouped"] * (layer.groups > 1)
        parts += [f"dilated{step}" for step in set(layer.dilation) - {1}]
    return "-".join(parts)


def shared_names(network: nn.Module) -> dict[str, str]:
    """A network's parameter → the shared one: ``fc.bias``, ``fc@Linear.bias``."""
    return {
        ".".join(filter(None, (place, name))): f"{place}@{kind(layer)}.{name}"
        for place, layer in network.named_modules()
        for name, _ in layer.named_parameters(recurse=False)
    }


def largest_layers(networks: Iterable[nn.Module]) -> dict[str, nn.Module]:
    """Place and kind → a layer on the meta device whose parameters have room for all networks'."""
    layers: dict[str, nn.Module] = {}
    for network in networks:
        for place, layer in network.named_modules():
            if any(True for _ in layer.parameters(recurse=False)):
                name = f"{place}@{kind(layer)}"
                layers[name] = _grown(layers.get(name, layer), layer)
    return layers


def _grown(one: nn.Module, other: nn.Module) -> nn.Module:
    grown, sizes = copy.deepcopy(one), dict(other.named_parameters(recurse=False))
    for name, own in one.named_parameters(recurse=False):
        shape = [max(pair) for pair in zip(own.shape, sizes[name].shape, strict=True)]
        setattr(grown, name, nn.Parameter(torch.empty(shape, device="meta")))
    return grown


def initial_shared(layers: Mapping[str, nn.Module], generator: torch.Generator) -> Params:
    """Fresh shared weights, by each layer's own ``reset_parameters`` at its largest size."""
    return {
        f"{place}.{name}": value
        for place, layer in sorted(layers.items())
        for name, value in initial_parameters(layer, generator).items()
    }


def window(largest: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """Where a tensor lies in a larger one: the first channels, the centre of kernels."""
    starts = [0 if axis < 2 else (most - size) // 2 for axis, (most, size) in _axes(largest, shape)]
    return tuple(slice(start, start + size) for start, size in zip(starts, shape, strict=True))


def _axes(largest: Sequence[int], shape: Sequence[int]) -> list[tuple[int, tuple[int, int]]]:
    return list(enumerate(zip(largest, shape, strict=True)))


def sliced(shared: Params, network: nn.Module) -> Params:
    """The weights of a network as views of the shared ones."""
    names, own = shared_names(network), dict(network.named_parameters())
    return {
        name: shared[names[name]][window(shared[names[name]].shape, value.shape)]
        for name, value in own.items()
    }


def scattered(values: Params, shared: Params, network: nn.Module) -> Params:
    """The inverse of :func:`sliced`: tensors like the shared ones, 0 but for a network's values."""
    names = shared_names(network)
    spread = {name: torch.zeros_like(value) for name, value in shared.items()}
    for name, value in values.items():
        large = spread[names[name]]
        large[window(large.shape, value.shape)] = value
    return spread
