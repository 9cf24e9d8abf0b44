"""Multi-layer perceptrons for regression and flat features.

The default member is the network of MAML's sinusoid experiment (Finn et al., ICML 2017, 5.1).
"""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor, nn

from autometa.backbones.base import Option, Shape
from autometa.backbones.nni_space import (
    LayerChoice,
    MutableLinear,
    NNISpace,
    RebuiltSpace,
    choice,
    frozen,
    label_scope,
)

MAX_DEPTH = 4


class MLPSpace(RebuiltSpace):
    """Layers ``linear1`` … ``linearN``, each a linear map and an activation."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        depth = self.add_mutable(choice("depth", [2, 1, 3, 4]))
        self.depth = frozen(depth, searching=MAX_DEPTH)
        features: Any = inputs
        for index in range(1, self.depth + 1):
            with label_scope(f"linear{index}"):
                width = choice("width", [40, 20, 64, 80, 128])
            activations = {"relu": nn.ReLU(), "tanh": nn.Tanh(), "silu": nn.SiLU()}
            activation = LayerChoice(activations, label="activation")
            layer = nn.Sequential(MutableLinear(features, width), activation)
            self.add_module(f"linear{index}", layer)
            features = width

    def forward(self, x: Tensor) -> Tensor:
        for index in range(1, self.depth + 1):
            x = getattr(self, f"linear{index}")(x)
        return x


class MLPBackbones(NNISpace):
    """Vectors [D]; each layer has a width of its own."""

    summary: ClassVar[str] = "multi-layer perceptrons (depth 1–4, widths 20–128)"
    input_rank: ClassVar[int] = 1

    def model_space(self, in_shape: Shape) -> MLPSpace:
        return MLPSpace(in_shape[0])

    def default(self) -> dict[str, Option]:
        return {"activation": "relu", "depth": 2, "linear1/width": 40, "linear2/width": 40}
