"""How exactly a GPU multiplies."""

from __future__ import annotations

import torch

FLOAT32, TF32 = "float32", "tf32"


def set_precision(name: str) -> None:
    """Whether matrix products and convolutions of this process may round what they multiply.

    ``tf32`` keeps 10 bits of a float32's 23. Torch does so in convolutions unless told otherwise.
    Gradients through several inner steps don't forgive it, see ``benchmarks/precision.py``.
    Whatever begins to train or to score calls this first; what only builds doesn't.
    """
    torch.backends.cudnn.allow_tf32 = name == TF32
    torch.backends.cuda.matmul.allow_tf32 = name == TF32
