"""How far a job is, and what there is to say when it does not come to its end."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any

_NAMES_SHOWN = 5


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
        notes: at the start, what should be known of the inputs, a line each.
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
    notes: tuple[str, ...] = ()

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
    notes: tuple[str, ...] = ()
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
            image, error, result, self.notes if image is None else (),
        )  # fmt: skip


@dataclass
class About:
    """How the files of a run were understood.

    Attributes:
        kinds: how many scores of each kind, the most first; empty where there are none.
        notes: what was done to files that their content does not show, and the images' names.

    In one order, whichever worker is done first.
    """

    kinds: dict[str, int] = field(default_factory=dict)
    notes: dict[str, list[str]] = field(default_factory=dict)

    def add(self, image: str, summary: Mapping[str, Any]) -> None:
        """Of one image: its `kind`, and the `notes`."""
        kind = summary.get("kind")
        if kind is not None:
            counts = {**self.kinds, kind: self.kinds.get(kind, 0) + 1}
            self.kinds = dict(sorted(counts.items(), key=lambda item: (-item[1], item[0])))
        for note in summary.get("notes", ()):
            insort(self.notes.setdefault(note, []), image)


def shortened(names: Iterable[str]) -> str:
    """The first five, and how many more there are."""
    listed = list(names)
    more = len(listed) - _NAMES_SHOWN
    return ", ".join(listed[:_NAMES_SHOWN]) + (f" and {more} more" if more > 0 else "")
