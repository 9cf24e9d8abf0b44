"""All checks, in the order in which they are shown."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from autometa.config import StudyConfig
from autometa.doctor import machine, software, surroundings
from autometa.doctor.finding import Finding, ok, problem
from autometa.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console


def examine(console: Console, studies: Path, *, start_ray: bool = False) -> Iterator[Finding]:
    """One finding after the other, as they are made.

    Args:
        console: Whose abilities are looked at.
        studies: Where studies are to lie; it need not exist.
        start_ray: Whether Ray is started, which takes some seconds.
    """
    yield software.python()
    yield from software.packages()
    yield from software.cuda()
    yield machine.memory()
    yield machine.disk("disk of studies", studies)
    yield machine.disk("disk of Ray", machine.ray_folder())
    yield from machine.shared_memory()
    yield from machine.file_descriptors()
    yield machine.cache()
    yield surroundings.ray_token()
    yield surroundings.proxy()
    yield surroundings.terminal(console)
    if start_ray:
        yield ray_starts()


def ray_starts() -> Finding:
    """Start Ray as a search does, and end it."""
    from autometa.search.cluster import Cluster

    began = time.monotonic()
    try:
        with Cluster(StudyConfig()) as cluster:
            dashboard = cluster.wait().dashboard
    except UserError as error:
        logs = f"look into {machine.ray_folder() / 'ray/session_latest/logs'}"
        return problem("Ray starts", str(error), logs)
    seconds = time.monotonic() - began
    return ok("Ray starts", f"in {seconds:.0f} s, its dashboard at {dashboard}")
