"""A run: units that are left to do, through an actor pool of Ray Data, into the results."""

from __future__ import annotations

import json
import queue
import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from time import monotonic, perf_counter
from typing import Any, NamedTuple

from ... import __version__
from ..._errors import one_line
from ..._files import nothing_left
from .._progress import Cancelled, Progress
from .._record import ADVICE, describe_differences
from ._board import Board, State
from ._cluster import Share, share_of
from ._how import How, Outcome
from ._inputs import Inputs, Unit
from ._results import CLASSES, FOLDERS, RUN, Results
from ._store import Store
from ._units import Todo, units_of
from ._work import Work
from ._worker import Plan, Worker

_LOOK = 0.2  # seconds between two looks at the board
_SECONDS_TO_END = 30.0  # of workers that were told to stop


class Done(NamedTuple):
    """Of `run`."""

    outcome: Outcome
    todo: Todo
    share: Share
    seconds: float


def run(
    stage: str,
    inputs: Inputs,
    work: Work,
    store: Store,
    settings: Mapping[str, Any],
    how: How,
    classes: Mapping[str, str] | None = None,
) -> Done:
    """Everything that is left to do, with Ray connected.

    Raises ValueError or OSError where results could not be made or would not fit those that are
    there, before anything is written; of a failure with "stop"; Cancelled.
    """
    import ray

    results = Results(store, how.masks)
    with _begun(store, settings, how, classes) as name:
        todo = units_of(inputs, results, how.columns, how.shard_images, refine=work.refine)
        share = share_of(how.workers, how.threads, how.gpus, len(todo.units))
        start = perf_counter()
        outcome = Outcome()
        if todo.units:
            plan = Plan(
                name, store.url, how.masks, how.columns, how.batch or share.batch, how.memory,
                share.threads, share.share, "cuda" if share.gpus else "cpu",
            )  # fmt: skip
            board = ray.remote(num_cpus=0, max_restarts=0)(Board).remote()
            rows = _Rows(todo.units, ray.put(work), plan, board, share)
            _Driver(stage, todo, how, board, outcome).follow(rows)
        elif how.progress is not None:
            how.progress(_Driver(stage, todo, how, None, outcome).progress())
        return Done(outcome, todo, share, perf_counter() - start)


@contextmanager
def _begun(
    store: Store, settings: Mapping[str, Any], how: How, classes: Mapping[str, str] | None
) -> Iterator[str]:
    """The folder of results, which from now on is this run's, by the name that it gets."""
    if store.exists() and not store.is_folder():
        raise NotADirectoryError(f"`output` {store.url} is a file (give a folder)")
    now = json.loads(json.dumps({"masks": how.masks, **settings}, default=str))
    there = store.exists(RUN)
    if there and not how.overwrite:
        if not how.resume:
            raise ValueError(f"`output` {store.url}: has results of an earlier run {ADVICE}")
        try:
            differences = describe_differences(json.loads(store.read(RUN))["settings"], now)
        except (ValueError, KeyError, TypeError):
            raise ValueError(f"`output` {store.url}: its {RUN} is damaged {ADVICE}") from None
        if differences:
            raise ValueError(
                f"`output` {store.url}: made with other settings: {differences} {ADVICE}"
            )
    name = secrets.token_hex(8)
    local = store.local
    with nothing_left([local] if local else [], alone_in=local) as keep:
        if how.overwrite:
            store.remove([*FOLDERS, RUN, CLASSES])
        store.remove_leftovers(FOLDERS)
        about = {"run": name, "deeplab_native": __version__, "settings": now}
        store.write(RUN, (json.dumps(about, indent=1) + "\n").encode())
        if classes is not None:
            store.write(CLASSES, (json.dumps(classes, indent=1) + "\n").encode())
        keep()
        yield name


class _Rows:
    """What becomes of the units, as Ray Data says it: in a thread, so that others may look in."""

    def __init__(self, units: list[Unit], work: Any, plan: Plan, board: Any, share: Share) -> None:
        import ray.data

        rows = [{"unit": unit.text()} for unit in units]
        # a block for each, as a task is a block; dead workers are begun again, and their tasks
        self._dataset = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
            Worker,
            fn_constructor_args=(work, plan, board),
            batch_size=1,
            compute=ray.data.ActorPoolStrategy(size=share.workers),
            num_cpus=share.threads,
            num_gpus=share.gpus,
        )
        self.coming: queue.Queue[dict[str, Any] | BaseException | None] = queue.Queue()
        self._thread = threading.Thread(target=self._work, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _work(self) -> None:
        try:
            for row in self._dataset.iter_rows():
                self.coming.put(json.loads(row["outcome"]))
            self.coming.put(None)
        except BaseException as error:
            self.coming.put(error)

    def end(self, seconds: float) -> None:
        self._thread.join(seconds)


class _Driver:
    """Follows a run: counts, says how far it is, and asks whether to go on."""

    def __init__(self, stage: str, todo: Todo, how: How, board: Any, outcome: Outcome) -> None:
        self._stage, self._todo, self._how = stage, todo, how
        self._board, self._outcome = board, outcome
        self._state = State(0, [], 0)
        self._start = perf_counter()
        self._left = {unit.name: unit for unit in todo.units}
        self._finished, self._failed = 0, 0  # images of units that are finished
        self._told = 0  # failures
        self._said: object = None

    def follow(self, rows: _Rows) -> None:
        self._say(self.progress(notes=self._todo.notes))
        rows.start()
        try:
            self._follow(rows)
        except BaseException:  # Ctrl-C, too
            self._board.stop.remote()
            rows.end(_SECONDS_TO_END)
            self._state = self._state._replace(images=self._finished + self._failed)
            self._say(self.progress())
            raise

    def _follow(self, rows: _Rows) -> None:
        looked = monotonic()
        while True:
            try:
                row = rows.coming.get(timeout=_LOOK)
            except queue.Empty:
                pass
            else:
                if row is None:
                    self._look()
                    return
                if isinstance(row, BaseException):
                    raise RuntimeError(_of_ray(row)) from None
                self._take(row)
            if monotonic() - looked >= _LOOK:
                looked = monotonic()
                self._look()
                if self._how.cancel is not None and self._how.cancel():
                    progress = self.progress()
                    raise Cancelled(self._todo.skipped + self._finished, progress.total)

    def _take(self, row: dict[str, Any]) -> None:
        if row.get("overtaken"):
            raise ValueError("`output`: another run has begun there (wait for its end)")
        if row.get("stopped"):
            return
        self._outcome.add(row)
        self._finished += row["images"]
        self._failed += len(row["failed"])
        del self._left[row["shard"]]

    def _look(self) -> None:
        import ray

        self._state = ray.get(self._board.state.remote())
        self._outcome.restarts = self._state.restarts
        for shard, key, error in self._state.failures:
            name = f"{shard}/{key}" if key else shard
            if self._how.on_error == "stop":
                raise ValueError(f"{name}: {error}")
            self._told += 1
            self._say(self.progress(name, error))
        self._say(self.progress())

    def progress(
        self, image: str | None = None, error: str | None = None, notes: tuple[str, ...] = ()
    ) -> Progress:
        """Images of shards that are not finished are done, too.

        A total that nobody has counted is that of the shards so far, for each byte.
        """
        skipped = self._todo.skipped
        done = max(self._state.images, self._finished + self._failed)
        left = list(self._left.values())
        known = self._finished + self._failed + sum(unit.images or 0 for unit in left)
        unknown = [unit for unit in left if unit.images is None]
        if unknown:
            all_bytes = sum(unit.size for unit in self._todo.units)
            finished = all_bytes - sum(unit.size for unit in left)
            each = (self._finished + self._failed) / finished if finished else 0
            known += max(len(unknown), round(each * sum(unit.size for unit in unknown)))
        return Progress(
            self._stage, "images", skipped + max(known, done), skipped + done, skipped,
            self._told, perf_counter() - self._start, image, error, None, notes,
        )  # fmt: skip

    def _say(self, progress: Progress) -> None:
        """Where there is something new."""
        now = progress.done, progress.total, progress.image, progress.error
        if self._how.progress is not None and now != self._said:
            self._said = now
            self._how.progress(progress)


def _of_ray(error: BaseException) -> str:
    """The cause in one line, without Ray's traceback of a worker."""
    cause = getattr(error, "cause", None) or error.__cause__ or error
    text = one_line(cause)
    return f"a worker of Ray could not go on: {text[:500]} (--debug shows where)"
