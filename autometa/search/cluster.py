"""Ray for a study: one of its own on this machine, or a cluster at an address."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

from autometa.config import ResourcesConfig
from autometa.errors import ConfigError, StudyError

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


# glibc hands large blocks back to the system at once and fetches them anew, page by page: kept
# instead, a meta-iteration of a Conv4 on a CPU takes a third of the time. Threads beside the first
# have arenas of their own, which don't keep what is over 64 MB: with one arena they do.
KEPT_MEMORY = {
    "MALLOC_MMAP_MAX_": "0",
    "MALLOC_TRIM_THRESHOLD_": str(2**40),
    "MALLOC_ARENA_MAX": "1",
}


KNOCK_S = 10


@contextmanager
def ray_session(resources: ResourcesConfig, address: str | None) -> Iterator[str | None]:
    """Ray for as long as the context lasts; yields the dashboard's URL.

    A Ray that runs in this process already is used as it is and left running. Ray's token
    authentication stays as the user has it: on, unless they switched it off.

    Raises:
        StudyError: The cluster can't be reached.
    """
    os.environ.update(
        {key: os.environ.get(key, value) for key, value in (QUIET | KEPT_MEMORY).items()}
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import ray

    if ray.is_initialized():
        yield _dashboard()
        return
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    try:
        if address:
            _knock(address)
            ray.init(address=address, **common)
        else:
            ray.init(
                address="local",  # never a cluster that happens to be known on this machine
                num_cpus=max(1, round(resources.concurrency * resources.cpus_per_trial)),
                include_dashboard=True,
                dashboard_host="127.0.0.1",
                **common,
            )
    except (OSError, ValueError, RuntimeError) as error:
        where = f"at address {address!r} " if address else ""
        reason = str(error).strip().splitlines()[0]
        raise StudyError(f"Ray {where}can't be reached or started: {reason}") from None
    try:
        yield _dashboard()
    finally:
        ray.shutdown()


def _knock(address: str) -> None:
    """Fail at once where nobody listens: Ray itself tries for minutes, then ends the process.

    Raises:
        OSError: No connection.
        ValueError: The address has a port that is no number.
    """
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.hostname and parts.port:
        socket.create_connection((parts.hostname, parts.port), timeout=KNOCK_S).close()


def _dashboard() -> str | None:
    import ray

    node: Any = ray._private.worker._global_node
    url = node.webui_url if node else None  # what ray.init() returns as dashboard_url
    return f"http://{url}" if url else None


def check_resources(resources: ResourcesConfig) -> None:
    """Refuse what Ray would wait for without end.

    Raises:
        ConfigError: A trial asks for more CPUs or GPUs than the cluster has.
    """
    import ray

    total: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    for kind, asked in (("CPU", resources.cpus_per_trial), ("GPU", resources.gpus)):
        if asked > total.get(kind, 0):
            raise ConfigError(
                f"resources.{kind.lower()}s_per_trial is {asked:g}, "
                f"but Ray has {total.get(kind, 0):g} {kind}s here"
            )
