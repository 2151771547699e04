"""What a process holds: memory, file descriptors, threads; and whether it grows."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_PAGE = resource.getpagesize()
_MB = 1e6


class Use(NamedTuple):
    """Of one process, or of several together: bytes, and numbers of them."""

    resident: int
    descriptors: int
    threads: int

    def __add__(self, other: object) -> Use:
        if not isinstance(other, Use):
            return NotImplemented
        return Use(*(a + b for a, b in zip(self, other, strict=True)))


def use_of(pid: int | str = "self") -> Use:
    """OSError where there is no such process any more."""
    folder = Path("/proc", str(pid))
    resident = int((folder / "statm").read_text().split()[1]) * _PAGE
    return Use(resident, len(os.listdir(folder / "fd")), len(os.listdir(folder / "task")))


def shares_of(pid: int | str = "self") -> dict[str, float]:
    """MB: `pss_mb`, pages that are shared divided by their users, and `uss_mb`, its own alone."""
    found = {}
    for line in Path("/proc", str(pid), "smaps_rollup").read_text().splitlines()[1:]:
        name, size, *_ = line.split()
        found[name.rstrip(":")] = int(size) * 1024 / _MB
    own = found["Private_Clean"] + found["Private_Dirty"]
    return {"pss_mb": round(found["Pss"], 1), "uss_mb": round(own, 1)}


def descendants(pid: int) -> Iterator[int]:
    """All processes that come from it, while they live."""
    for file in Path("/proc", str(pid), "task").glob("*/children"):
        try:
            children = file.read_text().split()
        except OSError:
            continue
        for child in map(int, children):
            yield child
            yield from descendants(child)


class Growth(NamedTuple):
    """From the tenth of the images after the warm-up to the last tenth.

    Attributes:
        before_mb, after_mb: medians of the resident memory.
        percent: of before; the slope's, too.
        slope: bytes an image, of the straight line with the least squares after the warm-up.
        peak_mb: the most after the warm-up.
        descriptors, threads: medians of the last tenth, less those of the first.
    """

    before_mb: float
    after_mb: float
    percent: float
    slope: float
    slope_percent: float
    peak_mb: float
    descriptors: int
    threads: int

    def is_flat(self, percent: float) -> bool:
        """Whether memory grew by no more, and nothing else did; that it falls is no fault."""
        return (
            self.percent <= percent
            and self.slope_percent <= percent
            and self.descriptors <= 0
            and self.threads <= 0
        )

    def figures(self) -> dict[str, Any]:
        """As results have them."""
        return {
            "before_mb": round(self.before_mb, 1),
            "after_mb": round(self.after_mb, 1),
            "growth_percent": round(self.percent, 2),
            "bytes_an_image": round(self.slope),
            "slope_percent": round(self.slope_percent, 2),
            "peak_mb": round(self.peak_mb, 1),
            "more_descriptors": self.descriptors,
            "more_threads": self.threads,
        }


def growth(images: Sequence[int], uses: Sequence[Use], warm_up: float = 0.1) -> Growth:
    """Of samples: how many images were done, and what was in use then.

    warm_up: the part of the images that is left out: caches fill, memory that is kept is asked for.
    """
    done = np.array(images, np.float64)
    resident, descriptors, threads = np.array(uses, np.float64).T
    total = done[-1]
    warm = done >= warm_up * total
    first = warm & (done < (warm_up + 0.1) * total)
    last = done > 0.9 * total
    before, after = np.median(resident[first]), np.median(resident[last])
    slope = float(np.polyfit(done[warm], resident[warm], 1)[0])
    return Growth(
        float(before / _MB),
        float(after / _MB),
        float(100 * (after - before) / before),
        slope,
        float(100 * slope * (1 - warm_up) * total / before),
        float(resident[warm].max() / _MB),
        int(np.median(descriptors[last]) - np.median(descriptors[first])),
        int(np.median(threads[last]) - np.median(threads[first])),
    )
