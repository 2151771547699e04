"""A worker: one process with a net, which makes the results of one unit after the other."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from hashlib import sha256
from time import monotonic
from typing import Any, NamedTuple

import numpy as np
import torch

from ... import viz
from ..._errors import one_line
from ..._memory import available_memory
from ..settings import check_device
from ._board import MOST_DEATHS, MOST_UNKNOWN, SECONDS
from ._inputs import Unit
from ._results import RUN, Results, Row
from ._samples import Columns, Sample, ShardError, samples
from ._store import Store
from ._work import Item, Labelled, Work


@dataclass(frozen=True)
class Plan:
    """What all workers of a run are told.

    Attributes:
        run: its name, as in run.json.
        output: URL of the folder of results.
        masks: format of them.
        columns: where images are.
        batch: images of a size at the most that go through net and CRF together.
        memory: bytes for such a batch; None: half of what is free, by this worker's share of the
            machine's cores.
        threads: CPU threads of a worker.
        share: of the machine's cores, that one worker has.
        device: "cpu" or "cuda".
    """

    run: str
    output: str
    masks: str
    columns: Columns
    batch: int
    memory: int | None
    threads: int
    share: float
    device: str


class Stopped(Exception):  # noqa: N818 - no fault of anybody
    """The run is to end: what is not finished is left."""


class _Read(NamedTuple):
    place: int  # among the images of the unit
    sample: Sample
    item: Item | None
    error: str | None


class Worker:
    """Called by Ray Data with units, a batch of one at a time.

    Args:
        work: what to do; a reference to it in Ray's store.
        plan: how.
        board: the actor that counts.
    """

    def __init__(self, work: Any, plan: Plan, board: Any) -> None:
        import ray

        check_device(plan.device)
        torch.set_num_threads(plan.threads)
        self._work: Work = ray.get(work)
        self._work.ready(plan.device)
        self._plan = plan
        self._call: Callable[..., Any] = lambda name, *a: ray.get(getattr(board, name).remote(*a))
        self._results = Results(Store(plan.output), plan.masks)

    def __call__(self, batch: dict[str, np.ndarray]) -> dict[str, list[str]]:
        unit = Unit.of_text(batch["unit"][0])
        return {"outcome": [json.dumps(self.do(unit))]}

    def do(self, unit: Unit) -> dict[str, Any]:
        """What became of a unit: "finished", or the "stopped" or "overtaken" run it was of."""
        deaths = self._call("begin", unit.name)
        if deaths is None:
            return {"shard": unit.name, "stopped": True}
        try:
            with closing(
                _Unit(self._work, self._plan, self._results, unit, deaths, self._call)
            ) as one:
                rows, masks, error = one.run()
        except Stopped:
            return {"shard": unit.name, "stopped": True}
        known = json.loads(self._results.store.read(RUN))
        if known["run"] != self._plan.run:
            return {"shard": unit.name, "overtaken": True}
        if unit.keep:
            kept = [r for r in self._results.rows(unit.name) if r.key in unit.keep]
            kept = [r for r in kept if r.status == "ok"]
            rows, masks = [*kept, *rows], {**self._results.masks(unit), **masks}
        finished = self._results.write(unit, masks, rows, error)
        new = [row for row in rows if row.key not in unit.keep or row.status != "ok"]
        return {
            "shard": unit.name,
            "images": sum(row.status == "ok" for row in new),
            "pixels": sum((r.height or 0) * (r.width or 0) for r in new if r.status == "ok"),
            "changed": sum(row.changed or 0 for row in new),
            "failed": {row.key: row.error for row in new if row.status != "ok"},
            "error": finished.error,
        }


class _Unit:
    """The images of one unit: read ahead by a thread, put together by size, labelled, packed."""

    def __init__(
        self,
        work: Work,
        plan: Plan,
        results: Results,
        unit: Unit,
        deaths: dict[str, int],
        call: Callable[..., Any],
    ) -> None:
        self._work, self._plan, self._results = work, plan, results
        self._unit, self._call = unit, call
        self._deaths = deaths
        # after a death one at a time, and each said before: so that it is known whose fault it is
        self._alone = bool(deaths)
        self._batch = 1 if self._alone else plan.batch
        self._pool = ThreadPoolExecutor(max(1, plan.threads))
        self._rows: dict[int, Row | Future[tuple[Row, bytes]]] = {}
        self._waiting: dict[Any, list[_Read]] = {}
        self._said = monotonic()
        self._failures: list[tuple[str, str]] = []

    def close(self) -> None:
        self._pool.shutdown(cancel_futures=True)

    def run(self) -> tuple[list[Row], dict[str, bytes], str | None]:
        """Rows in the order of the input, masks by key, and why there are no more of them."""
        problem = None
        if self._deaths.get("", 0) > MOST_UNKNOWN:
            return [], {}, f"its worker process died {self._deaths['']} times (out of memory?)"
        try:
            for read in self._ahead():
                self._take(read)
                self._say()
        except ShardError as error:
            problem = str(error)
        except Stopped:
            raise
        except Exception as error:  # a store that cannot be reached, each library with its own
            problem = one_line(error)
        for waiting in list(self._waiting.values()):
            self._label(waiting)
        self._say(now=True)
        rows: list[Row] = []
        masks: dict[str, bytes] = {}
        for _, found in sorted(self._rows.items(), key=lambda item: item[0]):
            if isinstance(found, Future):
                row, masks[row.key] = found.result()
            else:
                row = found
            rows.append(row)
        if problem is not None:
            self._failures.append(("", problem))
        self._say(now=True)
        return rows, masks, problem

    def _ahead(self) -> Iterator[_Read]:
        """Each image once it is read; a batch of them is read meanwhile."""
        coming = enumerate(samples(self._unit, self._plan.columns, refine=self._work.refine))
        reading: deque[Future[_Read]] = deque()
        end: Exception | None = None
        while True:
            while end is None and len(reading) < (1 if self._alone else 1 + self._plan.batch):
                try:
                    place, sample = next(coming)
                except StopIteration:
                    end = StopIteration()
                except Exception as error:  # raised once the images before it are done
                    end = error
                else:
                    if self._alone and self._call("alone", self._unit.name, sample.key):
                        raise Stopped
                    reading.append(self._pool.submit(self._read, place, sample))
            if not reading:
                break
            yield reading.popleft().result()
        if self._alone:
            self._call("alone", self._unit.name, "")
        if not isinstance(end, StopIteration):
            assert end is not None
            raise end

    def _read(self, place: int, sample: Sample) -> _Read:
        if sample.error is not None:
            return _Read(place, sample, None, sample.error)
        deaths = self._deaths.get(sample.key, 0)
        if sample.key and deaths >= MOST_DEATHS:
            died = f"its worker process died {deaths} times (out of memory?)"
            return _Read(place, sample, None, died)
        try:
            self._results.place(self._unit, sample.key)
            return _Read(place, sample, self._work.load(sample), None)
        except Exception as error:
            return _Read(place, sample, None, _without_paths(one_line(error)))

    def _take(self, read: _Read) -> None:
        if read.item is None:
            self._fail(read, read.error or "")
            return
        waiting = self._waiting.setdefault(read.item.alike, [])
        waiting.append(read)
        memory = self._plan.memory
        if memory is None:
            free = available_memory()
            memory = None if free is None else int(free * self._plan.share / 2)
        most = self._batch
        if memory is not None:
            most = max(1, min(most, memory // max(1, read.item.need)))
        if len(waiting) >= most:
            self._label(waiting)
        elif sum(map(len, self._waiting.values())) >= 2 * self._plan.batch:  # many sizes
            self._label(max(self._waiting.values(), key=len))

    def _label(self, reads: list[_Read]) -> None:
        """All of `reads`, which is empty then."""
        several, reads[:] = [*reads], []
        if not several:
            return
        try:
            found = self._run(several)
        except Exception as error:
            if len(several) == 1:
                self._fail(several[0], one_line(error))
                return
            for read in several:  # one of them may be too much, and the others not
                self._label([read])
            return
        for read, labelled in zip(several, found, strict=True):
            self._rows[read.place] = self._pool.submit(self._pack, read.sample, labelled)

    def _run(self, reads: Sequence[_Read]) -> list[Labelled]:
        return self._work.run([r.item.loaded for r in reads if r.item], self._plan.device)

    def _pack(self, sample: Sample, found: Labelled) -> tuple[Row, bytes]:
        mask = viz.label_png(found.labels, self._work.palette())
        counts = viz.count_labels(found.labels)
        height, width = found.labels.shape
        row = Row(
            sample.key, "ok", *self._origin(sample),
            self._results.place(self._unit, sample.key), height, width,
            {str(i): int(counts[i]) for i in np.flatnonzero(counts)},
            sha256(mask).hexdigest(), found.changed,
        )  # fmt: skip
        return row, mask

    def _fail(self, read: _Read, error: str) -> None:
        origin = self._origin(read.sample)
        self._rows[read.place] = Row(read.sample.key, "failed", *origin, error=error)
        self._failures.append((read.sample.key, error))

    def _origin(self, sample: Sample) -> tuple[str, str]:
        return sample.input or self._unit.url, sample.state or self._unit.state

    def _say(self, *, now: bool = False) -> None:
        """How far it is, not too often; raises Stopped where that is the answer."""
        if not now and monotonic() - self._said < SECONDS:
            return
        done = len(self._rows)
        failures, self._failures = self._failures, []
        self._said = monotonic()
        if self._call("report", self._unit.name, done, failures):
            raise Stopped


def _without_paths(text: str) -> str:
    """Without the paths that `as_file` makes."""
    words = (word for word in text.split(" ") if not word.startswith("/proc/self/fd/"))
    return " ".join(words)
