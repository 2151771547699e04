"""Ray: a cluster of this machine alone, or one that is there; quiet, and silent to the world."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import NamedTuple

_LEAST_STORE = 128 << 20  # bytes of Ray's object store; 75 MB are the least it takes
# For a cluster of our own: its ports are of 127.0.0.1 alone, as on systems where Ray has no others
_OWN = {
    "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",
    "RAY_health_check_timeout_ms": "600000",  # a laptop that slept is not a dead machine
}
_ALWAYS = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_BACKEND_LOG_LEVEL": "fatal",  # errors that are tried again
}


class Share(NamedTuple):
    """What of a cluster each worker has.

    Attributes:
        workers: how many at the same time.
        threads: CPUs of each.
        gpus: of each; 0: it computes on the CPU.
        share: of its machine's CPUs.
    """

    workers: int
    threads: int
    gpus: float
    share: float

    @property
    def batch(self) -> int:
        """Images that are computed together: on a CPU 16 of 375 x 500 take 1.3 x as long each."""
        return 16 if self.gpus else 1


def check_ray() -> None:
    """Raises ImportError, with what to do, where it or what Ray Data needs is missing."""
    missing = [name for name in ("ray", "pyarrow", "fsspec") if find_spec(name) is None]
    if missing:
        raise ImportError(
            f"{' and '.join(missing)} missing, for work on several machines (install it with pip "
            "install 'deeplab_native[ray]')"
        )


@contextmanager
def connected(address: str | None, store: int = 0) -> Iterator[None]:
    """Within, Ray is there: the process's own, if it has one already, or that of the address.

    Args:
        address: "auto", "ray://HOST:10001" or "HOST:6379"; None or "local": a cluster of this
            machine, which ends with the block.
        store: bytes that all workers of a machine read from Ray's object store.

    Raises ConnectionError where there is none.
    """
    check_ray()
    own = address in (None, "local")
    with _environment({**_ALWAYS, **_OWN} if own else _ALWAYS), warnings.catch_warnings():
        for kind in (DeprecationWarning, FutureWarning):  # what Ray says of its own code
            warnings.filterwarnings("ignore", category=kind, module=r"ray\b")
        import ray

        if ray.is_initialized():
            with _quiet():
                yield
            return
        quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
        own_how = {
            "num_cpus": len(os.sched_getaffinity(0)),
            "object_store_memory": _LEAST_STORE + 2 * store,
            "include_dashboard": False,
        }
        try:
            with _loopback() if own else nullcontext(), _nothing_said():
                ray.init(address=address or "local", **(own_how if own else {}), **quiet)
        except (OSError, RuntimeError, ValueError) as error:
            raise ConnectionError(
                f"`ray` {address}: no cluster there: {error} (start one by ray start --head)"
            ) from None
        try:
            with _quiet():
                yield
        finally:
            ray.shutdown()


def share_of(workers: int | None, threads: int | None, gpus: float | None, units: int) -> Share:
    """By default, a worker for each GPU with its part of the CPUs, or else one for each CPU.

    Raises ValueError where the cluster has not what was asked for.
    """
    import ray

    there = ray.cluster_resources()
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cpus, all_gpus = int(there.get("CPU", 0)), there.get("GPU", 0.0)
    largest = int(max((m.get("CPU", 0) for m in machines), default=0))
    if gpus is None:
        gpus = 1.0 if all_gpus >= 1 else 0.0
    if gpus > all_gpus:
        raise ValueError(f"`gpus` {gpus:g}: expected at most the cluster's {all_gpus:g}")
    most = max(1, int(all_gpus / gpus)) if gpus else max(1, cpus // (threads or 1))
    workers = min(workers or most, max(1, units))
    if threads is None:
        # of CPU workers each has one: more workers do more than more threads of a worker
        alike = cpus // workers if workers < most or gpus else 1
        threads = max(1, min(alike, largest))
    if threads > largest:
        raise ValueError(f"`threads` {threads}: no machine of the cluster has more than {largest}")
    return Share(workers, threads, gpus, threads / max(1, largest))


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    """Where they are not set otherwise."""
    before = {name: os.environ.get(name) for name in values}
    for name, value in values.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name, old in before.items():
            if old is None:
                os.environ.pop(name, None)


@contextmanager
def _set(module: object, name: str, value: object) -> Iterator[None]:
    """What Ray has no argument for, where this version of it has it."""
    if not hasattr(module, name):
        yield
        return
    before = getattr(module, name)
    setattr(module, name, value)
    try:
        yield
    finally:
        setattr(module, name, before)


@contextmanager
def _loopback() -> Iterator[None]:
    """As _OWN says, where Ray was imported before and has read it."""
    from ray._private import ray_constants

    with _set(ray_constants, "ENABLE_RAY_CLUSTER", False):
        yield


@contextmanager
def _nothing_said() -> Iterator[None]:
    """Ray's C++ part says on file 2 itself which log level it was given; errors are exceptions."""
    before, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nowhere)


@contextmanager
def _quiet() -> Iterator[None]:
    """Ray Data's bars, log lines and news of tasks on stdout are for whoever writes pipelines."""
    from ray._private import worker
    from ray.data import DataContext

    logger = logging.getLogger("ray.data")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with (
            _set(DataContext.get_current(), "enable_progress_bars", False),
            _set(worker, "_worker_logs_enabled", False),
        ):
            yield
    finally:
        logger.setLevel(level)
