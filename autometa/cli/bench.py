"""``autometa bench`` and ``autometa profile``: measurements."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer

from autometa.cli.common import Assignments, Seed, Space, configuration, console

Tables = Annotated[list[Path], typer.Argument(help="Folders of `autometa bench record`.")]
app = typer.Typer(help="Side-by-side measurements.", no_args_is_help=True)


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

    config = configuration(space, assignments, {"seed": seed})
    found = profile_space(config, iterations, trace)
    title = f"{found.spec.learner} on {found.spec.backbone}: {found.ms:,.1f} ms a meta-iteration"
    console().print(table(f"{title}, summed over threads", COLUMNS, found.lines()))
    typer.echo(f"trace: {trace}")


@app.command("learners")
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
    config = configuration(space, assignments, flags)
    results = bench(config, lambda name, told: _say(f"{name}: {told}"))
    console().print(table(config.name, SUMMARY, summary(results)))
    typer.echo(f"table: {config.folder / 'learners.md'}")


@app.command("record")
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
    config = configuration(space, assignments, flags | {"out": out})

    def notify(done: Any) -> None:
        score = f"{done.scores[-1]:.4f}" if done.scores else "none"
        _say(f"{done.number:4d} {done.candidate['learner']}: {done.end}, score {score}")

    found = record(config, notify)
    typer.echo(f"{len(found)} configurations: {config.folder}")


@app.command("search")
def bench_search(
    tables: Tables,
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

    rows = compare(
        tables,
        seeds=seeds,
        out=out,
        concurrency=concurrency,
        notify=_say,
        patterns=method or ["*"],
    )
    console().print(table("searches", COLUMNS, [cells(row) for row in rows]))
    typer.echo(f"table: {out / 'search.md'}")


@app.command("warm-start")
def bench_warm_start(
    tables: Tables,
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

    rows = compare(
        tables,
        seeds=seeds,
        first_seed=first_seed,
        out=out,
        concurrency=concurrency,
        notify=_say,
    )
    console().print(table("trials", COLUMNS, [cells(row) for row in rows]))
    typer.echo(f"table: {out / 'warm_start.md'}")


def _say(line: str) -> None:
    """As it is, whatever brackets it has."""
    console().print(line, markup=False)
