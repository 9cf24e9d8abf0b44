"""The batch-norm layers of any network: found by their class, watched, and given statistics.

S. Ioffe, C. Szegedy: "Batch Normalization", ICML 2015, https://arxiv.org/abs/1502.03167, normalises
by the batch in training and by a running average of what the batches showed in inference.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn

from .base import Params

NAMES = {"BatchNorm", "_BatchNorm"}  # any of one's own, and the base class of torch's
EPSILON = 1e-5


def batch_norms(module: nn.Module) -> dict[str, nn.Module]:
    """Name → batch-norm layer with weights, in the order of the network.

    A layer is known by the name of its class, or of one that its class derives from.
    """
    return {
        name: layer
        for name, layer in module.named_modules()
        if NAMES & {each.__name__ for each in type(layer).__mro__}
        and isinstance(getattr(layer, "weight", None), Tensor)
    }


@contextmanager
def watched(module: nn.Module, given: Mapping[str, Tensor]) -> Iterator[Params]:
    """Until it ends, batch-norm layers tell their inputs' statistics, and may be given others.

    Not for a module that several threads call.

    Args:
        given: ``<layer>.mean`` and ``<layer>.variance``, [C] each, to normalise by; layers that it
            leaves out normalise as ever.

    Yields:
        ``<layer>.mean`` and ``<layer>.variance``, [C] each, of the inputs in the last call;
        constants. Variances are unbiased (algorithm 2, step 10).
    """
    seen: Params = {}

    def hook(name: str) -> Any:
        def watch(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
            x = inputs[0]
            mean, variance = _statistics(x.detach())
            seen[f"{name}.mean"], seen[f"{name}.variance"] = mean, variance
            if f"{name}.mean" not in given:
                return output
            return _normalised(x, given[f"{name}.mean"], given[f"{name}.variance"], layer)

        return watch

    handles = [
        layer.register_forward_hook(hook(name)) for name, layer in batch_norms(module).items()
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


def _statistics(x: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and unbiased variance [C] of [B, C, …]; one number alone has variance 0."""
    rows = x.movedim(1, 0).flatten(1)
    mean = rows.mean(1)
    squares = (rows - mean[:, None]).square().sum(1)
    return mean, squares / max(1, rows.shape[1] - 1)


def _normalised(x: Tensor, mean: Tensor, variance: Tensor, layer: nn.Module) -> Tensor:
    shape = (-1, *[1] * (x.dim() - 2))
    weight, bias = cast(Tensor, layer.weight), cast(Tensor, layer.bias)
    scale = weight * torch.rsqrt(variance + getattr(layer, "eps", EPSILON))
    return (x - mean.view(shape)) * scale.view(shape) + bias.view(shape)
