"""Commands that run a study, look at it and take its winner away."""

from __future__ import annotations

import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.cli import complete
from autometa.cli.common import (
    Assignments,
    Dashboard,
    Folder,
    Seed,
    Space,
    Storage,
    configuration,
    console,
    steps,
)
from autometa.cli.running import AsJson, Output, Quiet, watched
from autometa.errors import ConfigError


def search(
    space: Space,
    assignments: Assignments = None,
    trials: Annotated[int | None, typer.Option(help="Trials of the search.")] = None,
    time: Annotated[str | None, typer.Option(help="Longest search: 30m, 2h.")] = None,
    seed: Seed = None,
    concurrency: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    gpus_per_trial: Annotated[
        str | None, typer.Option(help="0.25 puts four trials on one GPU; auto measures.")
    ] = None,
    cohort: Annotated[
        int | None, typer.Option(help="Trials that are one program, where that pays.")
    ] = None,
    storage: Storage = None,
    address: Annotated[str | None, typer.Option(help="A Ray cluster's address.")] = None,
    out: Annotated[Path | None, typer.Option(help="Study folder; default: trials/NAME.")] = None,
    warm_start: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FOLDER",
            help="An earlier study to learn from; may be repeated.",
            autocompletion=complete.studies,
        ),
    ] = None,
    dashboard: Dashboard = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print configuration and space; run nothing.")
    ] = False,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Search for the best meta-learner; ends with the winner's bundle.

    Example: autometa search quickstart --trials 20 --out trials/first
    """
    flags = {
        "budget.trials": trials,
        "budget.time": time,
        "seed": seed,
        "resources.concurrency": concurrency,
        "resources.gpus_per_trial": gpus_per_trial,
        "resources.cohort": cohort,
        "storage": storage,
        "address": address,
        "out": out,
        "warm_start": [str(folder) for folder in warm_start] if warm_start else None,
    }
    output = Output(quiet, as_json)
    config = configuration(space, assignments, flags)
    if dry_run:
        _dry_run(config, output)
        return
    from autometa import api

    shown = _shown(dashboard)
    watched(lambda observer: api.search(config, observer, dashboard=shown), output)


def resume(
    folder: Folder,
    storage: Storage = None,
    dashboard: Dashboard = None,
    quiet: Quiet = False,
    as_json: AsJson = False,
) -> None:
    """Go on with a study that was stopped, or whose process died.

    Example: autometa resume trials/first
    """
    output = Output(quiet, as_json)
    from autometa import api

    shown = _shown(dashboard)
    watched(lambda observer: api.resume(folder, observer, storage, dashboard=shown), output)


def report(
    folder: Folder,
    pdf: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Print the page to this file too.")
    ] = None,
    png: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A picture of the whole page.")
    ] = None,
    browser: Annotated[
        str | None, typer.Option(help="The Chromium for these; default: one on PATH.")
    ] = None,
    storage: Storage = None,
) -> None:
    """Write report.html (one page, no network needed) and trials.csv.

    A PDF or PNG of the page needs a Chromium or Chrome on this machine.

    Example: autometa report trials/first --pdf report.pdf
    """
    from autometa import api

    with steps() as observer:
        path = api.report(folder, storage, observer, pdf=pdf, png=png, browser=browser)
    typer.echo(f"report: {path}")
    for picture in filter(None, (pdf, png)):
        typer.echo(f"picture: {picture}")


def export(
    folder: Folder,
    to: Annotated[Path | None, typer.Option(help="Folder to write to; it must not exist.")] = None,
    format: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="One of `autometa formats`.",
            autocompletion=complete.formats,
        ),
    ] = "bundle",
    lossy: Annotated[
        bool, typer.Option("--lossy", help="Leave out what the format can't express, and say it.")
    ] = False,
    config_only: Annotated[
        str | None,
        typer.Option(
            metavar="FORMAT",
            help="Print only the configuration, as yaml, json or toml.",
            autocompletion=complete.config_formats,
        ),
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Another trial: best under 50k parameters."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Take the winner elsewhere: a bundle that needs only torch and safetensors, or a format.

    RULE is `best`, `best under 50k parameters` (or macs, ms, ece; several joined by `and`) or
    `smallest within 1 point`. What isn't the winner has no meta-test score.

    Example: autometa export trials/first --to ../my_project/best
    """
    from autometa import api

    if config_only:
        from autometa.export.configuration import check_format, render

        check_format(config_only)
        model = api.model_of(api.load_study(folder, storage), pick)
        typer.echo(render(model, config_only), nl=False)
        return
    if to is None:
        raise ConfigError("export needs --to DIR, a folder to write, or --config-only FORMAT")
    lost = api.losses(folder, format, storage, pick) if lossy else []
    with steps() as observer:
        written = api.export(folder, to, storage, pick, observer, format=format, lossy=lossy)
    for each in lost:
        typer.echo(f"lost: {each}", err=True)
    typer.echo(f"{format}: {written}")
    typer.echo(f"use it: {_usage(format, written)}")


def _usage(form: str, written: Path) -> str:
    """How one goes on with what was written."""
    if form == "bundle":
        return f"from {written.name} import load; predict = load().adapt(x, y)"
    from autometa.export.write import format_of

    told, needs = written / "README.md", shlex.join(format_of(form).needs)
    return f"see {told if told.exists() else written}{f'; pip install {needs}' if needs else ''}"


def _shown(dashboard: bool | None) -> bool:
    return sys.stdout.isatty() if dashboard is None else dashboard


def _dry_run(config: Any, output: Output) -> None:
    from autometa.report.listing import size_estimate, space_table
    from autometa.search.earlier import read_earlier
    from autometa.search.run import prepared

    with steps() as observer:
        planned = prepared(config, observer)
    earlier = read_earlier(planned.config, planned.space)
    if output.as_json:
        typer.echo(json.dumps({"event": "dry_run", "config": planned.config.public()}))
    if output.as_json or output.quiet:
        return
    screen = console()
    screen.print(planned.config.to_yaml(), markup=False, soft_wrap=True)
    screen.print(space_table(planned.space))
    screen.print(size_estimate(planned.space, planned.config), soft_wrap=True)
    for each in earlier:
        told = f"warm start: {len(each.trials)} trials of {each.name}"
        screen.print(told, soft_wrap=True, markup=False)
