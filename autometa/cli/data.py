"""``autometa data``: the data sets."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.cli import complete
from autometa.cli.common import console, steps

app = typer.Typer(help="Data sets.", no_args_is_help=True)


@app.command("list")
def data_list() -> None:
    """List the data sets with their options.

    Example: autometa data list
    """
    from autometa.report.listing import data_table

    console().print(data_table())


@app.command("show")
def data_show(
    name: Annotated[
        str,
        typer.Argument(
            help="A data set: see `autometa data list`.", autocompletion=complete.datasets
        ),
    ],
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture to write; default: NAME.png.")] = None,
) -> None:
    """Describe a data set and write a picture of it.

    Example: autometa data show glyphs --out glyphs.png
    """
    from autometa import episodes
    from autometa.config import assign
    from autometa.episodes.picture import save_picture
    from autometa.episodes.progress import listening
    from autometa.report.listing import rows_table
    from autometa.search.events import Phase

    values: dict[str, Any] = {}
    for assignment in options or []:
        assign(values, assignment)
    with (
        steps() as observer,
        listening(lambda done, total: observer(Phase("data", done, total, name))),
    ):
        dataset = episodes.load(name, values)
    path = out or Path(f"{name}.png")
    save_picture(dataset, path)
    console().print(rows_table(dataset.summary(), title=f"{name} {dataset.input_shape}"))
    typer.echo(f"picture: {path}")
