"""The ``autometa`` command: parse, call, print."""

from __future__ import annotations

import os
import shutil
import signal
import sys
from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.errors import ConfigError, UserError

app = typer.Typer(
    name="autometa",
    help="Find the best meta-learner for a family of few-shot tasks.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
data_app = typer.Typer(help="Data sets.", no_args_is_help=True)
app.add_typer(data_app, name="data")
bench_app = typer.Typer(help="Side-by-side measurements.", no_args_is_help=True)
app.add_typer(bench_app, name="bench")

Space = Annotated[str, typer.Argument(help="A YAML file, or the name of one of ours.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="A.B=C", help="Set any field; may be given many times."),
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything.")]
Folder = Annotated[Path, typer.Argument(help="A study folder.", metavar="FOLDER")]
Storage = Annotated[
    str | None,
    typer.Option(envvar="AUTOMETA_STORAGE", help="Optuna storage URL, e.g. of a PostgreSQL."),
]


class ConfigFormat(StrEnum):
    YAML = "yaml"
    JSON = "json"
    TOML = "toml"


def main() -> None:
    """Entry point: bad input ends with one sentence and exit code 2."""
    try:
        app()
    except UserError as error:
        typer.echo(f"error: {error}", err=True)
        sys.exit(error.exit_code)


def console() -> Any:
    """A Rich console, which sees for itself whether the output is a terminal."""
    from rich.console import Console

    return Console(highlight=False)


@app.command()
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
        typer.Option(metavar="FOLDER", help="An earlier study to learn from; may be repeated."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print configuration and space; run nothing.")
    ] = False,
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
    config = _configuration(space, assignments, flags)
    if dry_run:
        _dry_run(config)
        return
    from autometa import api

    _watched(lambda observer: api.search(config, observer))


@app.command()
def resume(folder: Folder, storage: Storage = None) -> None:
    """Go on with a study that was stopped, or whose process died."""
    from autometa import api

    _watched(lambda observer: api.resume(folder, observer, storage))


@app.command()
def status(folder: Folder, storage: Storage = None) -> None:
    """Show a study as it stands, running or not."""
    from autometa import api
    from autometa.report.live import status_table

    study = api.load_study(folder, storage)
    table = status_table(study.config, study.rows, study.result, study.folder.running())
    console().print(table)


@app.command()
def report(folder: Folder, storage: Storage = None) -> None:
    """Write report.html (one page, no network needed) and trials.csv."""
    from autometa import api

    typer.echo(f"report: {api.report(folder, storage)}")


@app.command()
def export(
    folder: Folder,
    to: Annotated[Path | None, typer.Option(help="Folder to write the bundle to.")] = None,
    config_only: Annotated[
        ConfigFormat | None, typer.Option(help="Print only the configuration, in this format.")
    ] = None,
    pick: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="Another trial: best under 50k parameters."),
    ] = None,
    storage: Storage = None,
) -> None:
    """Take the winner elsewhere: a folder that needs only torch and safetensors.

    RULE is `best`, `best under 50k parameters` (or macs, ms, ece; several joined by `and`) or
    `smallest within 1 point`. What isn't the winner has no meta-test score.
    """
    from autometa import api

    if config_only:
        from autometa.export.configuration import render

        model = api.model_of(api.load_study(folder, storage), pick)
        typer.echo(render(model, config_only.value), nl=False)
        return
    if to is None:
        raise ConfigError("export needs --to DIR, a folder to write, or --config-only FORMAT")
    bundle = api.export(folder, to, storage, pick)
    typer.echo(f"bundle: {bundle}")
    typer.echo(f"use it: from {bundle.name} import load; predict = load().adapt(x, y)")


@app.command()
def learners(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """List the meta-learners, or one's hyper-parameters with their domains."""
    from autometa.learners import LEARNERS
    from autometa.report.listing import learner_table, names_table

    console().print(learner_table(name) if name else names_table("learner", LEARNERS))


@app.command()
def backbones(name: Annotated[str | None, typer.Argument()] = None) -> None:
    """List the backbone spaces, or one's choices for 28×28 images."""
    from autometa.backbones import BACKBONES
    from autometa.report.listing import backbone_table, names_table

    console().print(backbone_table(name) if name else names_table("backbone", BACKBONES))


@app.command()
def spaces() -> None:
    """List the search spaces that come with autometa."""
    from autometa.config import shipped_spaces

    for name, path in shipped_spaces().items():
        typer.echo(f"{name}\t{path}")


@app.command()
def profile(
    space: Space,
    assignments: Assignments = None,
    seed: Seed = None,
    iterations: Annotated[int, typer.Option(min=1, help="Meta-iterations to profile.")] = 3,
    trace: Annotated[
        Path, typer.Option(help="File to write, for chrome://tracing or Perfetto.")
    ] = Path("trace.json"),
) -> None:
    """Show where the time and memory of one meta-iteration go.

    What is profiled is the first candidate that a random search of the space would propose;
    --seed chooses another, --set pins what it is made of.

    Example: autometa profile omniglot --set data.options.root=omniglot
    """
    os.environ.setdefault("KINETO_LOG_LEVEL", "99")
    from autometa.bench.profile import COLUMNS, profile_space
    from autometa.report.listing import table

    config = _configuration(space, assignments, {"seed": seed})
    found = profile_space(config, iterations, trace)
    title = f"{found.spec.learner} on {found.spec.backbone}: {found.ms:,.1f} ms a meta-iteration"
    console().print(table(f"{title}, summed over threads", COLUMNS, found.lines()))
    typer.echo(f"trace: {trace}")


@data_app.command("list")
def data_list() -> None:
    """List the data sets with their options."""
    from autometa.report.listing import data_table

    console().print(data_table())


@data_app.command("show")
def data_show(
    name: Annotated[str, typer.Argument(help="A data set: see `autometa data list`.")],
    options: Annotated[
        list[str] | None, typer.Option("--set", metavar="OPTION=VALUE", help="An option.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Picture to write; default: NAME.png.")] = None,
) -> None:
    """Describe a data set and write a picture of it."""
    from autometa import episodes
    from autometa.config import assign
    from autometa.episodes.picture import save_picture
    from autometa.report.listing import rows_table

    values: dict[str, Any] = {}
    for assignment in options or []:
        assign(values, assignment)
    dataset = episodes.load(name, values)
    path = out or Path(f"{name}.png")
    save_picture(dataset, path)
    console().print(rows_table(dataset.summary(), title=f"{name} {dataset.input_shape}"))
    typer.echo(f"picture: {path}")


@bench_app.command("learners")
def bench_learners(
    space: Space,
    assignments: Assignments = None,
    concurrency: Annotated[int | None, typer.Option(help="Learners at a time.")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: trials/NAME.")] = None,
) -> None:
    """Train every learner of a space under one budget, and test it; writes a table.

    Example: autometa bench learners learners_omniglot --set data.options.root=omniglot
    """
    from autometa.bench.learners import bench
    from autometa.bench.table import SUMMARY, summary
    from autometa.report.listing import table

    flags = {"resources.concurrency": concurrency, "seed": seed, "out": out}
    config = _configuration(space, assignments, flags)
    screen = console()

    def notify(name: str, told: str) -> None:
        screen.print(f"{name}: {told}", markup=False)

    results = bench(config, notify)
    screen.print(table(config.name, SUMMARY, summary(results)))
    typer.echo(f"table: {config.folder / 'learners.md'}")


@bench_app.command("record")
def bench_record(
    space: Space,
    assignments: Assignments = None,
    trials: Annotated[int | None, typer.Option(help="Configurations, with earlier ones.")] = None,
    concurrency: Annotated[int | None, typer.Option(help="Trials at a time.")] = None,
    seed: Seed = None,
    out: Annotated[Path | None, typer.Option(help="Folder; default: trials/NAME.")] = None,
) -> None:
    """Record real trials of a space with their learning curves; goes on where it was stopped.

    Example: autometa bench record tabular --trials 300
    """
    from autometa.bench.record import record

    flags = {"budget.trials": trials, "resources.concurrency": concurrency, "seed": seed}
    config = _configuration(space, assignments, flags | {"out": out})
    screen = console()

    def notify(done: Any) -> None:
        score = f"{done.scores[-1]:.4f}" if done.scores else "none"
        told = f"{done.number:4d} {done.candidate['learner']}: {done.end}, score {score}"
        screen.print(told, markup=False, highlight=False)

    found = record(config, notify)
    typer.echo(f"{len(found)} configurations: {config.folder}")


@bench_app.command("search")
def bench_search(
    tables: Annotated[list[Path], typer.Argument(help="Folders of `autometa bench record`.")],
    seeds: Annotated[int, typer.Option(min=2, help="Searches of each method on each table.")] = 20,
    method: Annotated[
        list[str] | None, typer.Option(help="Pattern of names; default: all.")
    ] = None,
    concurrency: Annotated[int, typer.Option(min=1, help="Methods at a time.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path("trials/bench_search"),
) -> None:
    """Replay searches on recorded trials, sampler by sampler and scheduler by scheduler.

    Example: autometa bench search trials/reference/tabular/glyphs
    """
    from autometa.bench.search import compare
    from autometa.bench.search_table import COLUMNS, cells
    from autometa.report.listing import table

    screen = console()

    def notify(done: str) -> None:
        screen.print(done, markup=False, highlight=False)

    rows = compare(
        tables,
        seeds=seeds,
        out=out,
        concurrency=concurrency,
        notify=notify,
        patterns=method or ["*"],
    )
    screen.print(table("searches", COLUMNS, [cells(row) for row in rows]))
    typer.echo(f"table: {out / 'search.md'}")


@bench_app.command("warm-start")
def bench_warm_start(
    tables: Annotated[list[Path], typer.Argument(help="Folders of `autometa bench record`.")],
    seeds: Annotated[int, typer.Option(min=2, help="Searches from each start.")] = 20,
    first_seed: Annotated[int, typer.Option(min=0, help="Seed of the first searches.")] = 0,
    concurrency: Annotated[int, typer.Option(min=1, help="Seeds at a time.")] = 2,
    out: Annotated[Path, typer.Option(help="Folder of the results.")] = Path(
        "trials/bench_warm_start"
    ),
) -> None:
    """Replay searches on recorded trials with and without earlier studies, good and bad ones.

    Example: autometa bench warm-start trials/reference/tabular/glyphs
    trials/reference/tabular/omniglot
    """
    from autometa.bench.warm import compare
    from autometa.bench.warm_table import COLUMNS, cells
    from autometa.report.listing import table

    screen = console()

    def notify(done: str) -> None:
        screen.print(done, markup=False, highlight=False)

    rows = compare(
        tables,
        seeds=seeds,
        first_seed=first_seed,
        out=out,
        concurrency=concurrency,
        notify=notify,
    )
    screen.print(table("trials", COLUMNS, [cells(row) for row in rows]))
    typer.echo(f"table: {out / 'warm_start.md'}")


def program() -> str:
    """How this command is called here: by its name where the shell finds it, else by its path."""
    given = sys.argv[0]
    return "autometa" if shutil.which("autometa") or not os.access(given, os.X_OK) else given


def _configuration(space: str, assignments: list[str] | None, flags: dict[str, Any]) -> Any:
    """The configuration of a space, with assignments and then the flags that were given."""
    from autometa.config import load_config

    given = {field: value for field, value in flags.items() if value is not None}
    return load_config(space, assignments or [], fields=given)


def _dry_run(config: Any) -> None:
    from autometa.report.listing import size_estimate, space_table
    from autometa.search.earlier import read_earlier
    from autometa.search.run import plan

    planned = plan(config)
    earlier = read_earlier(planned.config, planned.space)
    screen = console()
    screen.print(planned.config.to_yaml(), markup=False, soft_wrap=True)
    screen.print(space_table(planned.space))
    screen.print(size_estimate(planned.space, planned.config), soft_wrap=True)
    for each in earlier:
        told = f"warm start: {len(each.trials)} trials of {each.name}"
        screen.print(told, soft_wrap=True, markup=False)


def _watched(run: Callable[[Any], Any]) -> None:
    """Run a study under the live view, and say at the end what came out and what comes next."""
    from autometa.report.live import make_view
    from autometa.report.text import next_steps, summary
    from autometa.search.run import Interrupted

    # A scheduler's SIGTERM (a batch system's, say) stops a study as Ctrl-C does.
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    screen = console()
    try:
        with make_view(screen) as view:
            study = run(view)
    except (Interrupted, KeyboardInterrupt) as stop:
        begun = f"; go on with: {program()} resume {stop}" if str(stop) else " before it began"
        typer.echo(f"stopped{begun}", err=True)
        sys.exit(130)
    for line in [*summary(study.result, study.folder), *next_steps(study.folder, program())]:
        screen.print(line, soft_wrap=True, markup=False)


if __name__ == "__main__":
    main()
