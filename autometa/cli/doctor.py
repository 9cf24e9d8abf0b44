"""``autometa doctor``."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from autometa.cli.common import console


def doctor(
    ray: Annotated[bool, typer.Option("--ray", help="Start Ray as well: some seconds.")] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a JSON list of findings instead.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="Where studies are to lie; default: trials.")
    ] = None,
) -> None:
    """Check whether this machine can run a search; says what to do about each problem.

    Looks at Python, torch and CUDA, Ray, Optuna, NNI, memory, disks, shared memory, open files,
    the data cache, Ray's token, proxies and the terminal. Ends with code 1 if there is a problem;
    warnings alone end with 0.

    Example: autometa doctor --ray
    """
    from rich.progress import Progress, SpinnerColumn, TextColumn

    from autometa.doctor.examine import examine
    from autometa.doctor.finding import PROBLEM
    from autometa.doctor.table import findings_table, verdict

    screen, found = console(), []
    parts = (SpinnerColumn(), TextColumn("checking … {task.description}"))
    with Progress(*parts, console=console(stderr=True), transient=True) as progress:
        task = progress.add_task("Python")
        for finding in examine(screen, out or Path("trials"), start_ray=ray):
            found.append(finding)
            progress.update(task, description=f"after {finding.check}")
    if as_json:
        typer.echo(json.dumps([asdict(each) for each in found], indent=1))
    else:
        screen.print(findings_table(found))
        screen.print(verdict(found))
    sys.exit(any(each.state == PROBLEM for each in found))
