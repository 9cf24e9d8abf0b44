"""Few-shot convolutional nets for sequences: the images' family in one dimension.

Its default member is Conv4 with kernels of 3 and pooling by 2, a translation that is no paper's.
"""

from __future__ import annotations

from typing import ClassVar

from autometa.backbones.conv import ConvBackbones


class Conv1dBackbones(ConvBackbones):
    """Sequences [C, L]; labels are those of ``conv``, kernels reach to 9."""

    summary: ClassVar[str] = "convolutional nets for sequences (depth 2–6, width 16–128)"
    input_rank: ClassVar[int] = 2
