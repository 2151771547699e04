"""The workspaces of all visitors: each behind a secret of its own, bounded, dropped when unused."""

from __future__ import annotations

import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as OutOfTimeError
from dataclasses import dataclass, field
from typing import TypeVar

from .._malloc import Holes
from .limits import Limits
from .workspace import Workspace

_Result = TypeVar("_Result")
_OF_ONE = 16  # computations that one page may wait for; a browser asks for six at a time
_AT_A_TIME = 2  # computations; each has the threads of torch and of the CRF


class BusyError(Exception):
    """One page asks for too much at a time."""


class Upload:
    """A file that a visitor sent and that nobody has looked at yet."""

    def __init__(self, name: str, content: bytes) -> None:
        """name: as the browser says it: of its last part what can be printed."""
        last = name.replace("\\", "/").rpartition("/")[2]
        self.name = "".join(c for c in last if c.isprintable())[-100:] or "file"
        self.content = content


@dataclass
class Session:
    """One open page.

    Attributes:
        workspace: what it has; only within `lock`.
        pending: uploads by what they are for, "photo" or "labels", not yet read.
        arriving: uploads that are on their way.
        waiting: computations that are asked for; only within the lock of `Sessions`.
    """

    workspace: Workspace
    lock: threading.Lock = field(default_factory=threading.Lock)
    pending: dict[str, Upload] = field(default_factory=dict)
    used: float = 0.0
    arriving: int = 0
    waiting: int = 0

    def nbytes(self) -> int:
        """Of memory, about; also while uploads arrive."""
        return self.workspace.nbytes() + sum(len(u.content) for u in tuple(self.pending.values()))


class Sessions:
    """Open pages by their secret; threads may share it.

    clock: seconds, as `time.monotonic`.
    """

    def __init__(
        self,
        limits: Limits,
        new: Callable[[], Workspace],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._limits, self._new, self._clock = limits, new, clock
        self._lock, self._ended = threading.Lock(), threading.Event()
        self._sessions: OrderedDict[str, Session] = OrderedDict()  # that used last at the end
        self._secrets: dict[str, str] = {}  # by page
        self._threads = ThreadPoolExecutor(_AT_A_TIME, "web")

    def open(self, page: str) -> str:
        """The secret of a new session; `page` names who opened it, for `close`."""
        secret = secrets.token_urlsafe(24)
        with self._lock:
            self._sessions[secret] = Session(self._new(), used=self._clock())
            self._secrets[page] = secret
        self.tidy()
        return secret

    def get(self, secret: str) -> Session:
        """KeyError where there is none, or none any more."""
        with self._lock:
            session = self._sessions[secret]
            session.used = self._clock()
            self._sessions.move_to_end(secret)
            return session

    def close(self, page: str) -> None:
        """Drops what a page had; nothing where it is gone."""
        with self._lock:
            secret = self._secrets.pop(page, None)
            self._sessions.pop(secret or "", None)

    def tidy(self) -> None:
        """Drops what is idle, and what was idle for longest where there is too much."""
        now = self._clock()
        with self._lock:
            left = sum(session.nbytes() for session in self._sessions.values())
            last = next(reversed(self._sessions), None)  # in use, and its own size is bounded
            for secret, session in list(self._sessions.items()):
                size = session.nbytes()
                idle = now - session.used > self._limits.idle
                many = len(self._sessions) > self._limits.sessions
                if idle or (secret != last and (many or (size and left > self._limits.memory))):
                    left -= size
                    del self._sessions[secret]
            there = self._sessions
            self._secrets = {page: s for page, s in self._secrets.items() if s in there}

    def run(self, secret: str, work: Callable[[Session], _Result]) -> _Result:
        """work(session), alone on its session, and few at a time over all of them.

        Raises what it raises, KeyError as `get`, BusyError where the page waits for too many
        already, and TimeoutError where it takes too long: native code cannot be stopped, so it goes
        on, and keeps its place until it ends.
        """
        session = self.get(secret)
        with self._lock:
            if session.waiting >= _OF_ONE:
                raise BusyError("too much is asked for at a time (wait for the answers)")
            session.waiting += 1

        def alone() -> _Result:
            with session.lock:
                return work(session)

        future = self._threads.submit(alone)
        future.add_done_callback(lambda _: self._done(session))
        try:
            return future.result(self._limits.seconds)
        except OutOfTimeError:
            if not future.cancel() and future.done():
                raise  # its own
            raise TimeoutError(
                f"no result within {self._limits.seconds:g} s (take fewer iterations, a smaller "
                "photograph, or try again later)"
            ) from None
        finally:
            self.tidy()

    def _done(self, session: Session) -> None:
        with self._lock:
            session.waiting -= 1

    def tidy_every(self, seconds: float) -> None:
        """`tidy` by itself, until `end`: what is idle goes though nobody comes, and its memory."""

        def work() -> None:
            holes = Holes()
            while not self._ended.wait(seconds):
                self.tidy()
                holes.give_back()

        threading.Thread(target=work, name="web-tidy", daemon=True).start()

    def end(self) -> None:
        """Drops all, and starts nothing that waits."""
        self._ended.set()
        with self._lock:
            self._sessions.clear()
            self._secrets.clear()
        self._threads.shutdown(wait=False, cancel_futures=True)
