"""Lightning: a bundle, with a LightningModule that trains and tests it on episodes."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from autometa.errors import BundleError
from autometa.export.bundle import bundle_files
from autometa.export.formats.base import Format, Winner
from autometa.export.formats.project import (
    readme,
    settings_of,
    settings_source,
    template,
    training_losses,
    write_project,
)
from autometa.learners.base import CLASSES

INIT = '"""A meta-learned model with a LightningModule: see README.md."""\n'
DECAYED = ("meta.encoder/", "meta.head/")


class Lightning(Format):
    """The bundle's files, ``lightning_module.py``, ``episodes.py``, ``outer.py``, ``settings.py``.

    The learner's own source comes along, so every learner of episodes is expressed in full.
    """

    summary: ClassVar[str] = "a LightningModule that trains and tests on episodes"
    needs: ClassVar[tuple[str, ...]] = ("lightning>=2.2", "torch", "safetensors")

    def losses(self, winner: Winner) -> list[str]:
        return training_losses(winner)

    def check(self, winner: Winner) -> None:
        if winner.learner.trains_on == CLASSES:
            raise BundleError(
                f"learner {winner.spec.learner!r} trains on all classes at once, but the "
                "LightningModule trains on episodes: export it as 'bundle'"
            )

    def write(self, winner: Winner, into: Path) -> None:
        self.check(winner)
        settings = settings_of(winner, DECAYED)
        outer = template("outer.py").replace("\nimport settings\n", "\n")
        files = {
            "__init__.py": INIT,
            "README.md": readme(winner, "lightning", self.losses(winner), folder="best"),
            "lightning_module.py": template("lightning_module.py"),
            "episodes.py": template("episodes.py"),
            "outer.py": outer.replace("from torch import nn\n", OWN_SETTINGS),
            "settings.py": settings_source(settings),
        }
        write_project(into, bundle_files(winner) | files, winner.params)


# In a package the settings lie beside the file.
OWN_SETTINGS = "from torch import nn\n\nfrom . import settings\n"
