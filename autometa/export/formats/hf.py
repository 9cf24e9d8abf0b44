"""Hugging Face Hub: a folder as a model repository has it, ready to be uploaded by its owner.

``README.md`` with YAML front matter, ``model.safetensors``, ``config.json`` and the Python source
of a bundle. Nothing is uploaded.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

import yaml

from autometa.export.bundle import code, describe, figures, put_files
from autometa.export.card import model_card
from autometa.export.configuration import render
from autometa.export.formats.base import Format, Winner
from autometa.learners.base import REGRESSION

WEIGHTS = "model.safetensors"
OPENING = """from huggingface_hub import snapshot_download

snapshot_download("USER/NAME", local_dir="best")  # where it was uploaded to

from best import load
"""


class HfFormat(Format):
    """All of the winner, with the file names and the card that the Hub reads."""

    summary: ClassVar[str] = "a model repository for the Hugging Face Hub; nothing is uploaded"
    needs: ClassVar[tuple[str, ...]] = ("torch", "safetensors", "huggingface_hub")

    def write(self, winner: Winner, into: Path) -> None:
        described = describe(winner.config, winner.entry)
        card = model_card(described, winner.result, winner.entry, winner.learner, OPENING)
        results = figures(winner.result, winner.entry)
        files = {
            **code(winner.learner, winner.in_shape, winner.spec, winner.entry["name"], WEIGHTS),
            "config.json": render(described, "json"),
            "results.json": json.dumps(results, indent=1) + "\n",
            "README.md": front_matter(winner) + card.replace("`config.yaml`", "`config.json`"),
        }
        put_files(into, files, winner.params, WEIGHTS)


def front_matter(winner: Winner) -> str:
    """What the Hub reads of a card. The licence of the weights is their owner's to choose."""
    tags = ["meta-learning", "few-shot-learning", "autometa", winner.spec.learner]
    matter: dict[str, Any] = {"library_name": "pytorch", "tags": tags}
    if winner.entry["test"]:
        matter["model-index"] = [{"name": winner.entry["name"], "results": [_figure(winner)]}]
    return f"---\n{yaml.safe_dump(matter, sort_keys=False, allow_unicode=True)}---\n\n"


def _figure(winner: Winner) -> dict[str, Any]:
    """The meta-test score, as the Hub lists it."""
    regression = winner.learner.problem == REGRESSION
    task, name = winner.spec.task, winner.config.data.name
    kind = "few-shot-regression" if regression else "few-shot-image-classification"
    shape = "" if regression else f"{task['ways']}-way "
    return {
        "task": {"type": kind, "name": f"{shape}{task['shots']}-shot"},
        "dataset": {"type": name, "name": name},
        "metrics": [
            {
                "type": winner.result["metric"],
                "name": f"meta-test {winner.result['metric']}",
                "value": winner.entry["test"]["mean"],
            }
        ],
    }
