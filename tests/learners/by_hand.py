"""The small encoders of ``autometa.testing.small`` and a head, written out with plain torch."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from autometa.learners.base import REGRESSION


def network(problem: str, w: Sequence[Tensor], x: Tensor) -> Tensor:
    """Outputs [B, ways]; weights in the order of the modules."""
    if problem == REGRESSION:
        x = F.linear(F.linear(x, w[0], w[1]).tanh(), w[2], w[3]).tanh()
        return F.linear(x, w[4], w[5])
    for i in (0, 4):
        x = F.conv2d(x, w[i], w[i + 1], padding=1)
        mean, variance = x.mean((0, 2, 3)), x.var((0, 2, 3), unbiased=False)
        x = (x - mean[:, None, None]) / (variance[:, None, None] + 1e-5).sqrt()
        x = x * w[i + 2][:, None, None] + w[i + 3][:, None, None]
        x = F.max_pool2d(F.relu(x), 2)
    return F.linear(x.flatten(1), w[8], w[9])


class Identity(nn.Module):
    """An encoder whose features are its inputs."""

    def forward(self, x: Tensor) -> Tensor:
        return x
