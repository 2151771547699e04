"""Jobs for worker processes: each worker has one job at a time, and its death costs that job alone.

Why processes: the Python part of a job (reading, decoding, compressing) would share one lock among
threads, and a crash in one job would end all.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Generator, Iterable
from contextlib import suppress
from multiprocessing import forkserver
from multiprocessing.connection import Connection, wait
from typing import Any, NamedTuple

from .._errors import one_line

_SECONDS_TO_END = 5
_GUARD = "(does the script call it under `if __name__ == '__main__':`?)"
_SECONDS_OF_A_LOOK = 0.2  # between two questions whether to stop


class Outcome(NamedTuple):
    """What became of a job: its result, or in one line why there is none."""

    job: Any
    result: Any
    error: str | None


def run_jobs(
    function: Callable[[Any], Any],
    jobs: Iterable[Any],
    workers: int,
    preload: Iterable[str] = (),
    *,
    memory: int | None = None,
    need: Callable[[Any], int] | None = None,
    stop: Callable[[], bool] | None = None,
) -> Generator[Outcome, None, None]:
    """function(job) of each job, in the order in which they end.

    The function is one of a module, the jobs and results are pickled on their way. `preload` are
    modules that take long to import: that is done once for all workers. Jobs whose `need`, in
    bytes, is together more than `memory` do not run at the same time; one alone always may. Once
    stop() is true no more come. Leaving the iterator, by an exception or by Ctrl-C too, ends all
    workers at once. Raises RuntimeError where a worker cannot even start.
    """
    # a need is looked at when its job comes next: that may open a file
    coming = ((job, need(job) if need and memory is not None else 0) for job in jobs)
    todo = _Peekable(coming)
    # not fork: this process may have threads, of which the child would inherit the locks
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(preload))
    _start_server()
    pool: list[_Worker] = []
    finished: list[Outcome] = []
    try:
        while True:
            stopping = stop is not None and stop()
            if not stopping:
                _give_out(todo, pool, workers, lambda: _Worker(context, function), memory)
            yield from finished  # now that all workers have something to do
            working = {worker.connection: worker for worker in pool if worker.busy}
            if stopping or not working:
                return
            finished = []
            for connection in wait(list(working), None if stop is None else _SECONDS_OF_A_LOOK):
                worker = working[connection]
                outcome = worker.receive()
                if not worker.alive:
                    pool.remove(worker)
                    worker.end()
                if outcome is not None:
                    finished.append(outcome)
    finally:
        for worker in pool:
            worker.process.terminate()
        for worker in pool:
            worker.end()


def run_here(
    function: Callable[[Any], Any], jobs: Iterable[Any], *, stop: Callable[[], bool] | None = None
) -> Generator[Outcome, None, None]:
    """`run_jobs` without processes: one job after the other, in this thread."""
    for job in jobs:
        if stop is not None and stop():
            return
        try:
            outcome = Outcome(job, function(job), None)
        except Exception as error:
            outcome = Outcome(job, None, one_line(error))
        yield outcome


def _start_server() -> None:
    """The process that workers are forked from, deaf to Ctrl-C while it still imports, too."""
    # of this thread, which may be any: a handler could be set in the main thread only
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # inherited
    try:
        forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _give_out(
    todo: _Peekable,
    pool: list[_Worker],
    workers: int,
    new: Callable[[], _Worker],
    memory: int | None,
) -> None:
    """Jobs to idle workers and, up to `workers`, to new ones, as far as the memory goes."""
    while (following := todo.peek()) is not None:
        used = [worker.need for worker in pool if worker.busy]
        if used and memory is not None and sum(used) + following[1] > memory:
            return
        idle = next((worker for worker in pool if not worker.busy), None)
        if idle is None:
            if len(pool) == workers:
                return
            pool.append(idle := new())
        todo.take()
        idle.give(*following)
    for worker in [w for w in pool if not w.busy]:
        pool.remove(worker)
        worker.end()


class _Peekable:
    """(job, need) in turn; the next one can be looked at before it is taken."""

    def __init__(self, coming: Iterable[tuple[Any, int]]) -> None:
        self._coming = iter(coming)
        self._next: tuple[Any, int] | None = None

    def peek(self) -> tuple[Any, int] | None:
        """None where there is no more."""
        if self._next is None:
            self._next = next(self._coming, None)
        return self._next

    def take(self) -> None:
        self._next = None


class _Worker:
    def __init__(self, context: Any, function: Callable[[Any], Any]) -> None:
        self.connection, theirs = context.Pipe()
        self.process = context.Process(target=_work, args=(theirs, function), daemon=True)
        self.process.start()
        theirs.close()  # or the pipe would outlive the process, and nobody hear of its end
        self.alive, self.busy, self.need = True, False, 0
        self._started = False

    def give(self, job: Any, need: int) -> None:
        self._job, self.need, self.busy = job, need, True
        with suppress(OSError):  # where it is dead: receive() will say so
            self.connection.send(job)

    def receive(self) -> Outcome | None:
        """None for the message that it has started."""
        try:
            message = self.connection.recv()
        except (EOFError, OSError):
            self.alive = self.busy = False
            self.process.join()
            died = f"its worker process {_how_it_ended(self.process.exitcode)}"
            if not self._started:
                raise RuntimeError(f"workers: {died}, before it could begin {_GUARD}") from None
            return Outcome(self._job, None, died)
        if not self._started:
            self._started = True
            return None
        self.busy, self.need = False, 0
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
    why = " (out of memory? try fewer `workers`)" if name == "SIGKILL" else ""
    return f"was ended by {name}{why}"


def _end_with_parent() -> None:
    """Nobody waits for what a killed process gave out, and another run may be writing its files."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _work(connection: Connection, function: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the one who gives the jobs
    threading.Thread(target=_end_with_parent, daemon=True).start()
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
