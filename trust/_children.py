"""Calls in a forked child, which may do anything: what comes of each, and how the child ended."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

HANG = "hang"


def in_child(work: Callable[[Callable[[Any], None]], None], seconds: float) -> Iterator[Any]:
    """What work(say) says, JSON values, as it comes; then how the child ended.

    The last value is {"ended": "0"}, or the exit code, the name of the signal, or "hang" where
    nothing came for so many seconds. The parent must have no threads that hold locks.
    """
    reads, writes = os.pipe()
    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        _child(work, writes)
    os.close(writes)
    ended = None
    try:
        with open(reads, "rb", buffering=0) as file:
            rest, last = b"", time.monotonic()
            while ended is None:
                if not select.select([file], [], [], 0.5)[0]:
                    if time.monotonic() - last > seconds:
                        ended = HANG
                    continue
                got, last = file.read(1 << 16), time.monotonic()
                if not got:
                    break
                *lines, rest = (rest + got).split(b"\n")
                yield from map(json.loads, lines)
    finally:
        if ended == HANG:
            os.kill(child, signal.SIGKILL)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    how = signal.Signals(-status).name if status < 0 else str(status)
    yield {"ended": ended or how}


def _child(work: Callable[[Callable[[Any], None]], None], writes: int) -> None:
    code = 1
    try:
        # made before memory is short
        def say(value: Any) -> None:
            os.write(writes, json.dumps(value).encode() + b"\n")

        work(say)
        code = 0
    except BaseException:
        with suppress(BaseException):
            traceback.print_exc()
    finally:
        os._exit(code)
