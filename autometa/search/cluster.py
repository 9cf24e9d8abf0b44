"""Ray for a study: one of its own on this machine, or a cluster at an address."""

from __future__ import annotations

import logging
import os
import socket
import warnings
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Self
from urllib.parse import urlsplit

from autometa.config import ResourcesConfig, StudyConfig
from autometa.errors import ConfigError, StudyError
from autometa.search.door import LOCAL, Door, door_to
from autometa.search.events import Links
from autometa.search.malloc import keep_memory

QUIET = {
    "RAY_AIR_NEW_OUTPUT": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "TUNE_DISABLE_AUTO_CALLBACK_LOGGERS": "1",
    "TUNE_GLOBAL_CHECKPOINT_S": "3600",
    "TUNE_WARN_EXCESSIVE_EXPERIMENT_CHECKPOINT_SYNC_THRESHOLD_S": "0",
    "TUNE_DISABLE_STRICT_METRIC_CHECKING": "1",
}


KNOCK_S = 10
# One job after another: a start first waits for the end of what was begun before.
_THREAD = ThreadPoolExecutor(max_workers=1, thread_name_prefix="ray")


class Cluster:
    """Ray for a study: one of its own on this machine, or a cluster at an address.

    It starts on a thread while the study is read and checked, since it mostly waits for its own
    processes. As a context manager it ends what it began; left before :meth:`wait`, because the
    study can't be run, it isn't waited for but ends once it has started.
    A Ray that runs in this process already is used as it is and left running. Ray's token
    authentication stays as the user has it: on, unless they switched it off.

    Args:
        dashboard: Whether a Ray of its own has its dashboard, and exports metrics.
        input_shape: Of what trials train on, where it is known: how their processes keep memory.
    """

    def __init__(
        self,
        config: StudyConfig,
        dashboard: bool = True,
        input_shape: Sequence[int] | None = None,
    ) -> None:
        self._config = config
        self._door: Door | None = None
        os.environ.update({key: os.environ.get(key, value) for key, value in QUIET.items()})
        keep_memory(config.resources.cpus_per_trial, input_shape)
        with warnings.catch_warnings():  # not on the thread: it would be for all threads
            warnings.simplefilter("ignore")
            import ray  # noqa: F401
        self._begun = _THREAD.submit(_begin, config, dashboard)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._door is not None:
            self._door.close()
        self._begun.add_done_callback(_end)

    def wait(self) -> Links:
        """Where the dashboard is, once Ray runs.

        Raises:
            StudyError: The cluster can't be reached.
            ConfigError: A trial asks for more CPUs or GPUs than the cluster has.
        """
        try:
            self._begun.result()
        except Exception as error:  # of any class: Ray raises it bare when its start takes long
            address = self._config.address
            where = f"at address {address!r} " if address else ""
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise StudyError(f"Ray {where}can't be reached or started: {reason}") from None
        check_resources(self._config.resources)
        dashboard = _dashboard()
        self._door = door_to(dashboard) if dashboard else None
        return Links(dashboard, self._door.url if self._door else None)


def _begin(config: StudyConfig, dashboard: bool) -> bool:
    """Whether there was none yet."""
    import ray

    if ray.is_initialized():
        return False
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    common: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.CRITICAL}
    resources = config.resources
    if config.address:
        _knock(config.address)
        ray.init(address=config.address, **common)
    else:
        ray.init(
            address="local",  # never a cluster that happens to be known on this machine
            num_cpus=max(1, round(resources.concurrency * resources.cpus_per_trial)),
            include_dashboard=dashboard,
            dashboard_host=LOCAL,
            **common,
        )
    return True


def _end(begun: Future[bool]) -> None:
    import ray

    if begun.exception() is None and begun.result():
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
