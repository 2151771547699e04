"""Children made by os.fork, which inherit all there is; none of them is waited for forever."""

from __future__ import annotations

import json
import os
import select
import signal
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

HANG = "hang"


class Forked:
    """function() in a child."""

    def __init__(self, function: Callable[[], bytes]) -> None:
        self._child, self._reads = _fork(lambda pipe: _write(pipe, function()))

    def result(self, seconds: float) -> bytes:
        """What it gave; AssertionError where it ended otherwise, or had to be ended."""
        end, parts = time.monotonic() + seconds, [b""]
        at_end = False
        try:
            while not at_end:
                left = max(0.0, end - time.monotonic())
                if not select.select([self._reads], [], [], left)[0]:
                    raise AssertionError(f"the child hung: no result within {seconds:g} s")
                parts.append(os.read(self._reads, 1 << 16))
                at_end = not parts[-1]
        finally:
            os.close(self._reads)
            status = _end(self._child, kill=not at_end)
        if status:
            raise AssertionError(f"the child ended with {status}")
        return b"".join(parts)


def in_child(work: Callable[[Callable[[Any], None]], None], seconds: float) -> Iterator[Any]:
    """What work(say) says in a child, JSON values, as it comes; then how the child ended.

    The last value is {"ended": "0"}, or the exit code, the name of the signal, or "hang" where
    nothing came for so many seconds. The parent must have no threads that hold locks.
    """
    child, reads = _fork(lambda pipe: work(lambda said: _write(pipe, _line(said))))
    at_end, hangs, rest = False, False, b""
    try:
        while not at_end and not hangs:
            if not select.select([reads], [], [], seconds)[0]:
                hangs = True
                continue
            got = os.read(reads, 1 << 16)
            at_end = not got
            *lines, rest = (rest + got).split(b"\n")
            yield from map(json.loads, lines)
    finally:
        os.close(reads)
        status = _end(child, kill=not at_end)
    how = signal.Signals(-status).name if status < 0 else str(status)
    yield {"ended": HANG if hangs else how}


def _end(child: int, *, kill: bool) -> int:
    """The exit code of a child, or minus the signal that ended it."""
    if kill:  # also where nobody wants to hear more
        os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _fork(work: Callable[[int], None]) -> tuple[int, int]:
    """The number of a child that does work(pipe), and the end of that pipe to read from."""
    reads, writes = os.pipe()
    sys.stdout.flush()
    sys.stderr.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of fork where there are threads
        child = os.fork()
    if child == 0:
        code = 1
        try:
            os.close(reads)
            work(writes)
            code = 0
        except BaseException:
            with suppress(BaseException):  # memory may be short
                traceback.print_exc()
        finally:
            os._exit(code)
    os.close(writes)
    return child, reads


def _line(said: Any) -> bytes:
    return json.dumps(said).encode() + b"\n"


def _write(pipe: int, data: bytes) -> None:
    """All of it: a pipe takes what there is room for."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(pipe, rest) :]
