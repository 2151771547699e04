"""A cluster of Ray that lives on while drivers and workers are killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from deeplab_native.jobs.ray._cluster import _ALWAYS, _OWN

ADDRESS = "DEEPLAB_KILL_RAY"  # of the cluster, in the environment
_SECONDS = 300  # until it is there


@contextmanager
def cluster(folder: Path) -> Iterator[None]:
    """Of two CPUs of this machine; its workers have the preloaded part before them, too.

    Raises TimeoutError where it does not start.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # of this machine alone, for drivers, too, and so without a token
    os.environ.update({**_ALWAYS, **_OWN, "RAY_AUTH_MODE": "disabled"})
    line = [
        sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
        "--node-ip-address=127.0.0.1", "--num-cpus=2", "--object-store-memory=200000000",
        "--include-dashboard=false", "--disable-usage-stats",
    ]  # fmt: skip
    log = folder / "ray.log"
    with log.open("wb") as file:
        process = subprocess.Popen(
            line, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip
    try:
        _wait(process, port, log)
        os.environ[ADDRESS] = f"127.0.0.1:{port}"
        yield
    finally:
        os.environ.pop(ADDRESS, None)
        process.terminate()
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while process.poll() is None and time.monotonic() < end:
        if "Ray runtime started" in log.read_text(errors="replace"):
            return
        time.sleep(0.2)
    raise TimeoutError(f"Ray did not start: {log.read_text(errors='replace')[-1000:]}")
