"""What figures depend on beside the code: versions, processor, date."""

from __future__ import annotations

import datetime
import os
import platform
from pathlib import Path

from ._C import __version__


def versions() -> dict[str, str]:
    """Of this package, of torch and NumPy where they are installed, and of Python."""
    # it takes longer to import than all of this
    from importlib.metadata import PackageNotFoundError, version

    found = {"deeplab_native": __version__}
    for package in ("torch", "numpy"):
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return {**found, "python": platform.python_version()}


def cpu_model() -> str:
    """The processor's name, as far as the system says it."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor() or platform.machine()


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def now() -> datetime.datetime:
    """The time in UTC, or the one of SOURCE_DATE_EPOCH, for results that are to be the same.

    See https://reproducible-builds.org/specs/source-date-epoch/. Raises ValueError where that is
    no number of seconds.
    """
    utc, epoch = datetime.timezone.utc, os.environ.get("SOURCE_DATE_EPOCH")
    if epoch is None:
        return datetime.datetime.now(utc)
    try:
        return datetime.datetime.fromtimestamp(int(epoch), utc)
    except (ValueError, OverflowError, OSError):
        raise ValueError(f"SOURCE_DATE_EPOCH {epoch}: expected seconds since 1970") from None
