"""Functions for worker processes: they must be those of a module."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path


def work(job: tuple[str, object]) -> object:
    """What a job says: a value to give back, an error to raise, a way to end."""
    what, value = job
    if what == "raise":
        raise ValueError(f"{value} (say another)")
    if what == "odd":
        raise KeyError(value)
    if what == "exit":
        os._exit(value)
    if what == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    if what == "sleep":
        Path(value).write_text(str(os.getpid()))
        time.sleep(60)
    return value, os.getpid()


def in_turn(job: tuple[str, object]) -> tuple[float, float]:
    """When it began and ended."""
    start = time.monotonic()
    time.sleep(0.2)
    return start, time.monotonic()
