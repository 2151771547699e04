"""How a job runs: processes, threads, memory, and who is told."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from .._logging import logger
from .._memory import available_memory
from ._progress import Progress
from ._workers import Outcome, run_here, run_jobs

_log = logger(__name__)
_THREADS_PER_CORE = 4  # more only wait for each other, and thousands cannot be started at all


@dataclass(frozen=True)
class Execution:
    """How a job runs; arguments of every public function, see `deeplab_native.jobs`."""

    workers: int | None = None
    threads: int | None = None
    memory: int | None = None
    progress: Callable[[Progress], None] | None = None
    cancel: Callable[[], bool] | None = None

    def __post_init__(self) -> None:
        for name, count, least in (("workers", self.workers, 0), ("threads", self.threads, 1)):
            if count is not None:
                check_count(name, count, least=least)
        if self.memory is not None and self.memory < 1:
            raise ValueError(f"`memory`: expected a positive number of bytes, got {self.memory}")

    def for_tasks(self, tasks: int, device: str = "cpu") -> Execution:
        """With numbers in place of None: a worker a core, and the cores shared among them.

        On a GPU one worker: more would share it, each with the net in its memory. In this process
        as many threads as torch has.
        """
        cores = len(os.sched_getaffinity(0))
        workers = self.workers
        if workers is None:
            workers = cores if device == "cpu" else 1
        workers = min(workers, max(1, tasks))
        shared = max(1, cores // workers) if workers else torch.get_num_threads()
        threads = self.threads or shared
        memory = available_memory() if self.memory is None else self.memory
        _log.info(
            "%d images on %s: %d worker processes of %d threads, %s of memory",
            *(tasks, device, workers, threads),
            "as much as there is" if memory is None else f"{memory / 1e9:.1f} GB",
        )
        return Execution(workers, threads, memory, self.progress, self.cancel)

    def outcomes(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[Any],
        *,
        preload: str,
        need: Callable[[Any], int] | None = None,
    ) -> Generator[Outcome, None, None]:
        """function(job) of each, in the order in which they end; see `run_jobs`."""
        assert self.workers is not None
        if self.workers == 0:
            return run_here(partial(_with_threads_kept, function), jobs, stop=self.cancel)
        return run_jobs(
            function, jobs, self.workers, [preload], memory=self.memory, need=need, stop=self.cancel
        )


def _with_threads_kept(function: Callable[[Any], Any], job: Any) -> Any:
    """function(job), after which torch has as many threads as the caller gave it."""
    before = torch.get_num_threads()
    try:
        return function(job)
    finally:
        torch.set_num_threads(before)


def check_count(name: str, count: int, *, least: int = 1) -> None:
    """Raises for more threads or processes than the cores can have any use for."""
    if isinstance(count, bool) or not isinstance(count, int):
        raise TypeError(f"`{name}`: expected an integer, got {type(count).__name__}")
    cores = len(os.sched_getaffinity(0))
    most = _THREADS_PER_CORE * cores
    if not least <= count <= most:
        what = "too many" if count > most else "too few"
        raise ValueError(
            f"`{name}` {count}: {what} for {cores} cores (give {least} to {most}, or leave it out)"
        )
