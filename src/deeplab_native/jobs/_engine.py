"""What every job over many images has in common.

    inputs -> tasks -> worker pool -> record -> results

A task is one image, or a part of the work on one. Its result is in the record when the next
`Progress` is given; a run that ends in any way, also by a power cut, goes on from its record.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .._files import check_inside, nothing_left, remove_leftovers
from .._logging import logger
from ._execution import Execution
from ._progress import Cancelled, Tally
from ._record import ADVICE, Record, remove_record
from ._workers import Outcome

_log = logger(__name__)


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
    every = list(tasks)
    left = [
        task
        for task in every
        if done.get(task.name) != task.state or not all(path.is_file() for path in task.outputs)
    ]
    _log.info("%s: to do: %d of %d images", record.path, len(left), len(every))
    return left


def collect(
    outcomes: Generator[Outcome, None, None],
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
                _log.debug("%s: %s done", tally.stage, name(job))
                tally.finished += weight(job)
            else:
                tally.failed[name(job)] = error
                _log.debug("%s: %s failed: %s", tally.stage, name(job), error)
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
    files: Iterable[Path] = (),
) -> Iterator[Record]:
    """The folder `output` for this run alone, with the record in it.

    Args:
        output: made where it is missing.
        kind, record: name of the job and of its record's file.
        settings: of the record.
        resume: whether to go on with a record that is there.
        overwrite: whether to remove it first, and the `results`.
        folders: others that the run writes to.
        files: what it writes beside the results, and what is of no use without any.

    A run that ends, in whatever way, without a single result leaves nothing that was not there.

    Raises what `Record` does, and ValueError where a link in `output` leads out of it, another run
    is writing to the folder, or there is a record and neither `resume` nor `overwrite`.
    """
    path = output / record
    used = [output, *folders]
    check_inside(output, used)
    # what is new is looked for, and removed, by the one alone who has the folder
    with nothing_left(used, [path, *files], alone_in=output) as keep:
        if overwrite:
            # the results first: no file may ever lie beside a record that it was not made by
            for result in results:
                result.unlink(missing_ok=True)
            remove_record(path)
        elif not resume and path.exists():
            raise ValueError(f"`output` {output}: has results of an earlier run {ADVICE}")
        try:
            remove_leftovers(f for f in used if f.is_dir())  # of runs that were killed
            with closing(Record(path, kind, settings)) as opened:
                try:
                    yield opened
                finally:
                    if not _is_empty(opened):
                        keep()
        finally:
            remove_leftovers(f for f in used if f.is_dir())  # of workers ended while they wrote


def _is_empty(record: Record) -> bool:
    try:
        return not record.done()
    except (OSError, ValueError):  # it cannot be read now, which is no reason to remove it
        return False


def check_output_folder(output: Path, inputs: Iterable[Path], *, what: str = "output") -> None:
    """Raises where results could not lie in `output`, or would lie among the inputs."""
    if output.exists() and not output.is_dir():
        raise NotADirectoryError(f"`{what}` {output} is a file (give a folder)")
    if output.resolve() in {path.resolve() for path in inputs}:
        raise ValueError(
            f"`{what}` {output}: results would lie among the inputs (give another folder)"
        )
