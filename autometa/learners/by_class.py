"""Which examples belong to which class of a task, and the means over them."""

from __future__ import annotations

import torch
from torch import Tensor


def members(y: Tensor, ways: int) -> Tensor:
    """Whether each example is of each class, bool [N, n]; ``y`` [n] of 0…N−1."""
    result: Tensor = y == torch.arange(ways, device=y.device)[:, None]
    return result


def class_means(x: Tensor, y: Tensor, ways: int) -> Tensor:
    """Mean of the rows of each class, [N, D]; every class needs an example.

    Shapes: ``x`` [n, D]; ``y`` [n] of 0…N−1.
    """
    member = members(y, ways).to(x.dtype)
    return member @ x / member.sum(1, keepdim=True)
