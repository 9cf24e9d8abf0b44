"""Memory, disks, shared memory, open files, and the cache of decoded images."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil

from autometa.doctor.finding import Finding, ok, problem, size, warning
from autometa.episodes import cache as images

GB = 10**9
LEAST_MEMORY = 2 * GB
LEAST_DISK = 1 * GB
LITTLE_DISK = 5 * GB
FULL = 95.0
"""Percent of its disk from which on Ray writes no more objects."""
LITTLE_SHARED = 1 * GB
LEAST_FILES = 1024
FEW_FILES = 8192
SHARED = Path("/dev/shm")
CGROUP = Path("/sys/fs/cgroup")


def memory() -> Finding:
    """Main memory, or what a container may use of it, and how many CPUs share it."""
    found, limit = psutil.virtual_memory(), container_limit(CGROUP)
    available, total = found.available, found.total
    if limit is not None and limit[1] < total:
        available, total = min(available, limit[0]), limit[1]
    affinity = getattr(os, "sched_getaffinity", None)  # not on every system
    cpus = len(affinity(0)) if affinity else psutil.cpu_count() or 1
    return judge_memory(available, total, cpus)


def container_limit(folder: Path) -> tuple[int, int] | None:
    """Bytes that are left to a Linux control group, and its limit; None where it has none."""
    try:
        limit = int((folder / "memory.max").read_text())
        return max(limit - int((folder / "memory.current").read_text()), 0), limit
    except (OSError, ValueError):  # "max": no limit
        return None


def judge_memory(available: int, total: int, cpus: int) -> Finding:
    """Each worker has torch in memory: about half a gigabyte before it trains."""
    text = f"{size(available)} of {size(total)} free, {cpus} CPUs"
    if available < LEAST_MEMORY:
        return problem("memory", text, "end other programs, or search with --concurrency 1")
    return ok("memory", text)


def disk(check: str, folder: Path) -> Finding:
    """Room and permission to write in a folder, or where it would be made."""
    place = _existing(folder)
    if not place.is_dir():
        return problem(check, f"{place} is no folder", "move it away, or choose another with --out")
    if not os.access(place, os.W_OK | os.X_OK):
        return problem(check, f"{place} can't be written", _elsewhere(check))
    usage = psutil.disk_usage(str(place))
    return judge_disk(check, folder, usage.free, usage.percent)


def judge_disk(check: str, folder: Path, free: int, percent: float) -> Finding:
    """By what is free, and for Ray also by the share that is used."""
    text = f"{size(free)} free at {folder}"
    if free < LEAST_DISK:
        return problem(check, text, f"free some space, or {_elsewhere(check)}")
    if percent >= FULL and check == "disk of Ray":
        return problem(
            check, f"{text}, {percent:.0f} % full", f"free some space, or {_elsewhere(check)}"
        )
    if free < LITTLE_DISK:
        return warning(check, text, f"free some space, or {_elsewhere(check)}")
    return ok(check, text)


def _elsewhere(check: str) -> str:
    if check == "disk of Ray":
        return "set RAY_TMPDIR to a folder on another disk (its name short: it is part of sockets')"
    return "choose another with --out"


def _existing(folder: Path) -> Path:
    """The folder, or the nearest one above it that exists."""
    folder = folder.expanduser().absolute()
    return next(place for place in (folder, *folder.parents) if place.exists())


def ray_folder() -> Path:
    """Where Ray keeps sockets, logs and what its memory doesn't hold."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())


def shared_memory() -> Iterator[Finding]:
    """Of Linux, where Ray's objects lie."""
    if SHARED.is_dir():
        usage = psutil.disk_usage(str(SHARED))
        yield judge_shared_memory(usage.free, usage.total)


def judge_shared_memory(free: int, total: int) -> Finding:
    """Where it is small Ray takes its folder instead, which is slower."""
    text = f"{size(free)} of {size(total)} free at {SHARED}"
    if total < LITTLE_SHARED:
        return warning(
            "shared memory",
            text,
            "in Docker give it more: docker run --shm-size=2g (or --ipc=host)",
        )
    if free < LITTLE_SHARED:
        return warning("shared memory", text, f"remove from {SHARED} what no program uses any more")
    return ok("shared memory", text)


def file_descriptors() -> Iterator[Finding]:
    """Open files that a process may have, on systems that limit them."""
    if importlib.util.find_spec("resource"):
        import resource

        yield judge_files(*resource.getrlimit(resource.RLIMIT_NOFILE))


def judge_files(soft: int, hard: int) -> Finding:
    """Ray raises the soft limit to the hard one by itself."""
    most = 10**6 if hard < 0 else hard
    text = f"at most {soft:,}, and {most:,} if asked for"
    advice = "raise it: ulimit -n 65536 (docker run --ulimit nofile=65536:65536)"
    if most < LEAST_FILES:
        return problem("open files", text, advice)
    if most < FEW_FILES:
        return warning("open files", text, advice)
    return ok("open files", text)


def cache() -> Finding:
    """Where decoded images are kept, and shared by workers."""
    folder = images.folder()
    place = _existing(folder)
    advice = "set AUTOMETA_CACHE to a folder that can be written: else each worker decodes anew"
    if not place.is_dir():
        return problem("data cache", f"{place} is no folder", advice)
    if not os.access(place, os.W_OK | os.X_OK):
        return warning("data cache", f"{place} can't be written", advice)
    kept = list(folder.glob("*.pt"))
    held = size(sum(path.stat().st_size for path in kept))
    return ok("data cache", f"{folder}: {len(kept)} files, {held}")
