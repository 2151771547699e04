"""What every job over many images has in common: who works, what is kept, how far it is.

    inputs -> tasks -> worker pool -> record -> results

A task is one image, or a part of the work on one. Its result is in the record when the next
`Progress` is given; a run that ends in any way, also by a power cut, goes on from its record.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any, NamedTuple

import torch

from .._files import remove_leftovers, sole_writer
from .._memory import available_memory
from ._record import ADVICE, Record, remove_record
from ._workers import Outcome, run_here, run_jobs

_NAMES_SHOWN = 5
_THREADS_PER_CORE = 4  # more only wait for each other, and thousands cannot be started at all


@dataclass(frozen=True)
class Progress:
    """How far a job is; `progress` callbacks get one at the start and after every image.

    Attributes:
        stage: what is done: "refine", "segment", "evaluate"; of a search "check", "coarse grid",
            "round 1", ...
        unit: what is counted: "images", or "CRFs" of a search.
        total: of them in this stage.
        done: finished, those of earlier runs and those that failed among them.
        skipped: finished in an earlier run.
        failed: could not be used.
        seconds: since the stage began.
        image: name of the image that ended just now; None at the start.
        error: why it failed, in one line, or None.
        result: what is known of it, where the job says more than that it is done.
    """

    stage: str
    unit: str
    total: int
    done: int
    skipped: int
    failed: int
    seconds: float
    image: str | None = None
    error: str | None = None
    result: Mapping[str, Any] | None = None

    @property
    def rate(self) -> float:
        """Finished in this run, a second."""
        return (self.done - self.skipped - self.failed) / max(1e-9, self.seconds)


class Cancelled(Exception):  # noqa: N818 - as asyncio.CancelledError: no fault of anybody
    """`cancel` said so; what was done is kept, and the same call goes on from there.

    Attributes:
        done, total: of the stage, see `Progress`.
    """

    def __init__(self, done: int, total: int, unit: str = "images") -> None:
        super().__init__(f"cancelled: {done} of {total} {unit} are done")
        self.done, self.total = done, total


class ImagesFailedError(ValueError):
    """Images could not be used, and without them there is no result.

    Attributes:
        failed: why, by the image's name.
        total: images of the job.
    """

    def __init__(self, failed: Mapping[str, str], total: int) -> None:
        self.failed, self.total = dict(failed), total
        reasons = set(failed.values())
        if len(reasons) == 1:  # also an option that suits none of them
            everything = len(failed) == total > 1
            names = "all images" if everything else shortened(failed)
            super().__init__(f"{names}: {next(iter(reasons))}")
        else:
            super().__init__(
                f"{len(failed)} of {total} images cannot be used (mend them, or choose others)"
            )


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

        On a GPU one worker: more would share it, each with the net in its memory.
        """
        cores = len(os.sched_getaffinity(0))
        workers = self.workers
        if workers is None:
            workers = cores if device == "cpu" else 1
        workers = min(workers, max(1, tasks))
        threads = self.threads or max(1, cores // max(1, workers))
        memory = available_memory() if self.memory is None else self.memory
        return Execution(workers, threads, memory, self.progress, self.cancel)

    def outcomes(
        self,
        function: Callable[[Any], Any],
        jobs: Sequence[Any],
        *,
        preload: str,
        need: Callable[[Any], int] | None = None,
    ) -> Iterator[Outcome]:
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


def shortened(names: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")


class Task(NamedTuple):
    """One image: `job` goes to a worker.

    It is finished when the record has its name with the same `state` (of what its result depends
    on beside the settings), and all `outputs` are there.
    """

    name: str
    job: Any
    state: str = ""
    outputs: tuple[Path, ...] = ()


def unfinished(tasks: Iterable[Task], record: Record) -> list[Task]:
    """The tasks that are left to do."""
    done = record.done()
    return [
        task
        for task in tasks
        if done.get(task.name) != task.state or not all(path.is_file() for path in task.outputs)
    ]


@dataclass
class Tally:
    """What a stage has done so far; `failed` says of every image that could not be used why."""

    stage: str
    total: int
    skipped: int = 0
    unit: str = "images"
    finished: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    lost: int = 0  # of the total, by failures
    start: float = field(default_factory=perf_counter)

    @property
    def seconds(self) -> float:
        return perf_counter() - self.start

    @property
    def done(self) -> int:
        return self.skipped + self.finished + self.lost

    def progress(
        self,
        image: str | None = None,
        error: str | None = None,
        result: Mapping[str, Any] | None = None,
    ) -> Progress:
        return Progress(
            self.stage, self.unit, self.total, self.done, self.skipped, self.lost, self.seconds,
            image, error, result,
        )  # fmt: skip


def collect(
    outcomes: Iterator[Outcome],
    tally: Tally,
    how: Execution,
    *,
    name: Callable[[Any], str],
    keep: Callable[[Any, Any], Mapping[str, Any] | None],
    weight: Callable[[Any], int] = lambda job: 1,
) -> None:
    """Keeps every result as it comes, and says how far the stage is.

    Args:
        outcomes: of `Execution.outcomes`, or of whoever else does the work.
        name, weight: of a job: its image, and how much of the total it is.
        keep: keep(job, result) has the result on the disk when it returns; what it returns is
            `Progress.result`.

    Raises `Cancelled` once `how.cancel` says so; and what `keep` raises.
    """
    say = how.progress or (lambda progress: None)
    say(tally.progress())
    with closing(outcomes):
        for job, result, error in outcomes:
            known = None
            if error is None:
                known = keep(job, result)
                tally.finished += weight(job)
            else:
                tally.failed[name(job)] = error
                tally.lost += weight(job)
            say(tally.progress(name(job), error, known))
    if tally.done < tally.total:
        raise Cancelled(tally.done - tally.lost, tally.total, tally.unit)


@contextmanager
def workplace(
    output: Path,
    kind: str,
    record: str,
    settings: Any,
    *,
    resume: bool = True,
    overwrite: bool = False,
    results: Iterable[Path] = (),
    folders: Iterable[Path] = (),
) -> Iterator[Record]:
    """The folder `output` for this run alone, with the record in it.

    Args:
        output: made where it is missing.
        kind, record: name of the job and of its record's file.
        settings: of the record.
        resume: whether to go on with a record that is there.
        overwrite: whether to remove it first, and the `results`.
        folders: others that the run writes to.

    Raises what `Record` does, and ValueError where another run is writing to the folder, or there
    is a record and neither `resume` nor `overwrite`.
    """
    output.mkdir(parents=True, exist_ok=True)
    with sole_writer(output):
        path = output / record
        if overwrite:
            # the results first: no file may ever lie beside a record that it was not made by
            for result in results:
                result.unlink(missing_ok=True)
            remove_record(path)
        elif not resume and path.exists():
            raise ValueError(f"`output` {output}: has results of an earlier run {ADVICE}")
        used = [output, *folders]
        try:
            remove_leftovers(f for f in used if f.is_dir())  # of runs that were killed
            with closing(Record(path, kind, settings)) as opened:
                yield opened
        finally:
            remove_leftovers(f for f in used if f.is_dir())  # of workers ended while they wrote


def check_output_folder(output: Path, inputs: Iterable[Path], *, what: str = "output") -> None:
    """Raises where results could not lie in `output`, or would lie among the inputs."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"`{what}` {output} is a file (give a folder)")
    if output.resolve() in {path.resolve() for path in inputs}:
        raise ValueError(
            f"`{what}` {output}: results would lie among the inputs (give another folder)"
        )
