"""The ``autometa`` command: parse, call, print."""

from __future__ import annotations

import sys

import typer

from autometa.cli import bench, boards, data, doctor, listings, studies, tables, watching
from autometa.errors import UserError

app = typer.Typer(
    name="autometa",
    help="Find the best meta-learner for a family of few-shot tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
for command in (
    studies.search,
    studies.resume,
    watching.status,
    watching.watch,
    studies.report,
    studies.export,
    tables.table,
    boards.dashboard,
    boards.grafana,
    listings.learners,
    listings.backbones,
    listings.spaces,
    listings.formats,
    bench.profile,
    doctor.doctor,
):
    app.command()(command)
app.add_typer(data.app, name="data")
app.add_typer(bench.app, name="bench")


def main() -> None:
    """Entry point: bad input ends with one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)
