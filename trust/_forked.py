"""Children made by fork, with a time limit: what could go wrong is that they wait forever."""

from __future__ import annotations

import os
import select
import signal
import time
import traceback
import warnings
from collections.abc import Callable


class Forked:
    """function() in a child made by os.fork, which inherits all there is."""

    def __init__(self, function: Callable[[], bytes]) -> None:
        self._reading, writing = os.pipe()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of fork where there are threads
            self._child = os.fork()
        if self._child == 0:
            code = 1
            try:
                os.close(self._reading)
                with os.fdopen(writing, "wb") as pipe:
                    pipe.write(function())
                code = 0
            except BaseException:
                traceback.print_exc()
            finally:
                os._exit(code)
        os.close(writing)

    def result(self, seconds: float) -> bytes:
        """What it gave; AssertionError where it ended otherwise, or had to be ended."""
        end, parts = time.monotonic() + seconds, []
        try:
            while True:
                left = max(0.0, end - time.monotonic())
                if not select.select([self._reading], [], [], left)[0]:
                    os.kill(self._child, signal.SIGKILL)
                    raise AssertionError(f"the child hung: no result within {seconds:g} s")
                part = os.read(self._reading, 1 << 16)
                if not part:
                    break
                parts.append(part)
        finally:
            os.close(self._reading)
            _, status = os.waitpid(self._child, 0)
        if status:
            raise AssertionError(f"the child ended with {os.waitstatus_to_exitcode(status)}")
        return b"".join(parts)
