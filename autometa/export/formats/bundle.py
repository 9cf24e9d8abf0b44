"""The bundle: a folder that another project copies in, with torch and safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from autometa.export.bundle import bundle_files, put_files
from autometa.export.formats.base import Format, Winner


class BundleFormat(Format):
    """All of the winner: network and learner as source, weights, configuration, results."""

    summary: ClassVar[str] = "a package of Python source and weights; needs torch and safetensors"
    needs: ClassVar[tuple[str, ...]] = ("torch", "safetensors")

    def write(self, winner: Winner, into: Path) -> None:
        put_files(into, bundle_files(winner), winner.params)
