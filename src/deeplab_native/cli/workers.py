"""Jobs for worker processes: each worker has one job at a time, and its death costs that job alone.

Why processes: the Python part of a job (reading, decoding, compressing) would share one lock among
threads, and a crash in one job would end all.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from .errors import one_line

_SECONDS_TO_END = 5


class Outcome(NamedTuple):
    """What became of a job: its result, or in one line why there is none."""

    job: Any
    result: Any
    error: str | None


def run_jobs(
    function: Callable[[Any], Any], jobs: Iterable[Any], workers: int, preload: Iterable[str] = ()
) -> Iterator[Outcome]:
    """function(job) of each job, in the order in which they end.

    The function is one of a module, the jobs and results are pickled on their way. `preload` are
    modules that take long to import: that is done once for all workers. Leaving the iterator, by an
    exception or by Ctrl-C too, ends all workers at once. To be called by the main thread. Raises
    RuntimeError where a worker cannot even start.
    """
    todo = deque(jobs)
    # not fork: this process may have threads, of which the child would inherit the locks
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    _start_server()
    busy: list[_Worker] = []
    try:
        while todo or busy:
            while todo and len(busy) < workers:
                busy.append(_Worker(context, function, todo.popleft()))
            ready = wait([worker.connection for worker in busy])
            for worker in [w for w in busy if w.connection in ready]:
                outcome = worker.receive()
                if outcome is None:
                    continue
                if worker.alive and todo:
                    worker.give(todo.popleft())
                else:
                    worker.end()
                    busy.remove(worker)
                yield outcome
    finally:
        for worker in busy:
            worker.process.terminate()
        for worker in busy:
            worker.end()


def _start_server() -> None:
    """The process that workers are forked from, deaf to Ctrl-C while it still imports, too."""
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # inherited
    try:
        forkserver.ensure_running()
    finally:
        signal.signal(signal.SIGINT, before)


class _Worker:
    def __init__(self, context, function: Callable[[Any], Any], job: Any) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # or the pipe would outlive the process, and nobody hear of its end
        self.alive = True
        self._started = False
        self.give(job)

    def give(self, job: Any) -> None:
        self._job = job
        with suppress(OSError):  # where it is dead: receive() will say so
            self.connection.send(job)

    def receive(self) -> Outcome | None:
        """None for the message that it has started."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join()
            died = f"its worker process {_how_it_ended(self.process.exitcode)}"
            if not self._started:
                raise RuntimeError(f"{self._job}: {died}, before it could begin") from None
            return Outcome(self._job, None, died)
        if not self._started:
            self._started = True
            return None
        return Outcome(self._job, *message)

    def end(self) -> None:
        self.connection.close()  # an idle worker ends by that
        self.process.join(_SECONDS_TO_END)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()
        self.process.close()


def _how_it_ended(code: int | None) -> str:
    if code is None or code >= 0:
        return f"ended with exit code {code}"
    name = signal.Signals(-code).name
    why = " (out of memory? try fewer --workers)" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who gives the jobs
    try:
        connection.send("started")
        while True:
            job = connection.recv()
            answer: tuple[Any, str | None]
            try:
                answer = function(job), None
            except Exception as error:
                answer = None, one_line(error)
            connection.send(answer)
    except (EOFError, BrokenPipeError, ConnectionResetError):
        pass  # no more jobs, or nobody left to give them
