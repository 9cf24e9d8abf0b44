"""Commands that list what there is to choose from."""

from __future__ import annotations

from typing import Annotated

import typer

from autometa.cli import complete
from autometa.cli.common import console


def learners(
    name: Annotated[
        str | None, typer.Argument(help="A learner.", autocompletion=complete.learners)
    ] = None,
) -> None:
    """List the meta-learners, or one's hyper-parameters with their domains.

    Example: autometa learners maml
    """
    from autometa.learners import LEARNERS
    from autometa.report.listing import learner_table, names_table

    console().print(learner_table(name) if name else names_table("learner", LEARNERS))


def backbones(
    name: Annotated[
        str | None, typer.Argument(help="A backbone space.", autocompletion=complete.backbones)
    ] = None,
) -> None:
    """List the backbone spaces, or one's choices for 28×28 images.

    Example: autometa backbones conv
    """
    from autometa.backbones import BACKBONES
    from autometa.report.listing import backbone_table, names_table

    console().print(backbone_table(name) if name else names_table("backbone", BACKBONES))


def spaces() -> None:
    """List the search spaces that come with autometa, with their files.

    Example: autometa spaces
    """
    from autometa.config import shipped_spaces

    for name, path in shipped_spaces().items():
        typer.echo(f"{name}\t{path}")


def formats() -> None:
    """List the formats that `autometa export --format` writes.

    Example: autometa formats
    """
    from autometa.export.formats import FORMATS
    from autometa.report.listing import table

    loaded = ((name, FORMATS.load(name)) for name in FORMATS)
    body = ((name, each.summary, ", ".join(each.needs)) for name, each in loaded)
    console().print(table("formats", ("format", "what it is", "used with"), body))
