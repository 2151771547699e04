"""Memory that is not there is an error before work starts; Linux would end the process later."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from . import _C

MOST_UNPACKED = 1 << 32
"""Bytes that one array, volume or archive member may have in memory, whatever it has in a file."""
_LEAST = 1 << 28  # bytes that are not worth a look
_MEMINFO = Path("/proc/meminfo")
# The limit of a container, in version 2 and 1 of cgroups.
_LIMITS = (
    Path("/sys/fs/cgroup/memory.max"),
    Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"),
)


def least_bytes_of_crf(labels: int, points: int, dims: Sequence[int], itemsize: int = 4) -> int:
    """Of a mean field on the CPU with kernels of `dims` dimensions, beside its unary.

    Q, the energies in planes of 8 labels, and the number and the weight of d + 1 vertices of each
    point; not the vertices themselves, which depend on the features.
    """
    values = labels + 8 * (-(-(labels + 1) // 8)) + len(dims) + 2
    return points * (values * itemsize + sum(8 * (d + 1) for d in dims))


def least_bytes_of_rows(labels: int, vertices: int, itemsize: int = 4) -> int:
    """Of a mean field's values on the vertices of its lattices: csrc/cpu/simd_kernels.h."""
    cold = 0 if labels <= 8 else 8 * (-(-(labels - 7) // 8))
    return vertices * (1 if labels == 2 else 8 + cold) * itemsize


def least_bytes_in_bands(labels: int, pixels: int, scale: float) -> int:
    """Of the labels of a large image, whose CRF (none where it is 0) is of a part of its pixels.

    The photograph twice, labels before and after, and the scores of a cell with its vertices.
    """
    return 8 * pixels + least_bytes_of_crf(labels, int(pixels * scale * scale), [2, 5])


def least_bytes_of_lattice(points: int, d: int) -> int:
    """Of a lattice on the CPU while it is built, without its vertices.

    The number and the weight of d + 1 vertices of each point; with more dimensions than are packed
    into keys (kPackedDim of permutohedral.h) also the record that names them.
    """
    return points * (8 * (d + 1) + (4 * d if d > 16 else 0))


def check_memory(what: str, size: int) -> None:
    """MemoryError where so many bytes, the least that `what` takes, are not to be had."""
    if size < _LEAST:
        return
    available = available_memory()
    if available is not None and size > available:
        raise MemoryError(
            f"{what}: needs at least {size / 1e9:.1f} GB, and {available / 1e9:.1f} GB are free"
        )


def check_unpacked(what: object, size: int) -> None:
    """ValueError where what a file unpacks to is beyond `MOST_UNPACKED`, MemoryError as above.

    Some kilobytes of a packed file can stand for any number of bytes: call it before they are made.
    """
    if size > MOST_UNPACKED:
        raise ValueError(
            f"{what}: {size / 1e9:,.1f} GB in memory; expected at most "
            f"{MOST_UNPACKED / 1e9:.1f} GB of what may be packed (save less in one file)"
        )
    check_memory(str(what), size)


def available_memory() -> int | None:
    """Bytes that this process could still have; None where the system does not say."""
    found = []
    with suppress(OSError, KeyError, ValueError):
        lines = (line.split() for line in _MEMINFO.read_text().splitlines())
        kilobytes = {words[0]: int(words[1]) for words in lines if len(words) > 1}
        free = kilobytes["MemAvailable:"] + kilobytes.get("SwapFree:", 0)
        found.append(free * 1024 + _C.kept_memory())  # which native code uses again
    for path in _LIMITS:
        with suppress(OSError, ValueError):  # no such file; "max"
            found.append(int(path.read_text()))
    return min(found, default=None)


class ClippedFile(io.BufferedReader):
    """A file that never makes room for more bytes than it has.

    Pillow reads as many as a chunk of a PNG claims to have, zipfile as a member does, and Python
    takes memory for all of them first: 70 bytes could ask for 4 GB.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        if size is not None and size > 0:
            size = max(0, min(size, self._size - self.tell()))
        return super().read(size)
