"""How a run runs, and what it has done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from .._progress import Progress
from ._results import FORMATS
from ._samples import Columns

MOST_NAMED = 1000  # failures that a result holds


@dataclass(frozen=True)
class How:
    """How a run runs; arguments of `segment` and `refine` of `deeplab_native.jobs.ray`."""

    masks: str
    shard_images: int
    columns: Columns
    on_error: str
    gpus: float | None
    batch: int | None
    resume: bool
    overwrite: bool
    workers: int | None
    threads: int | None
    memory: int | None
    progress: Callable[[Progress], None] | None
    cancel: Callable[[], bool] | None

    def __post_init__(self) -> None:
        for name, value, known in (
            ("masks", self.masks, tuple(FORMATS)),
            ("on_error", self.on_error, ("skip", "stop")),
        ):
            if value not in known:
                raise ValueError(f"`{name}` {value}: expected one of {', '.join(known)}")
        for name in ("shard_images", "batch", "workers", "threads", "memory"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or int(value) != value or value < 1):
                raise ValueError(f"`{name}`: expected a positive integer, got {value!r}")
        if self.gpus is not None and not self.gpus >= 0:
            raise ValueError(f"`gpus`: expected 0 or more, got {self.gpus}")


@dataclass
class Outcome:
    """What a run has done so far; see `RayResult`."""

    images: int = 0
    pixels: int = 0
    changed: int = 0
    shards: int = 0
    failures: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    restarts: int = 0

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Of a unit that is finished."""
        self.shards += 1
        self.images += outcome["images"]
        self.pixels += outcome["pixels"]
        self.changed += outcome["changed"]
        named = {f"{outcome['shard']}/{key}": error for key, error in outcome["failed"].items()}
        if outcome["error"] is not None:
            named[outcome["shard"]] = outcome["error"]
        self.failures += len(named)
        for name, error in named.items():
            if len(self.failed) < MOST_NAMED:
                self.failed[name] = error
