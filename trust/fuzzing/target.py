"""What is fuzzed: a reader, files that it reads, how they are changed, and what it may take."""

from __future__ import annotations

import os
import time
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

Reader = Callable[[bytes], object]
# (data, at most so many bytes, a number to draw from, changes bytes blindly)
Mutator = Callable[[bytes, int, int, Callable[[bytes, int], bytes]], bytes]
SLOWEST = 2.0  # seconds of the processor for one file of at most `max_len` bytes


class FindingError(AssertionError):
    """A reader did with a file what none may do."""


@dataclass(frozen=True)
class Target:
    """A reader to be fuzzed.

    Attributes:
        name: of the target.
        reads: what it reads, in words.
        code: the files of the package that do it, as patterns: where one changes, executions are
            counted anew.
        reader: imports the reader and gives it, as a function of a file's bytes; `scratch` is for
            readers that want a path.
        seeds: whole files, small ones.
        max_len: bytes of the files that are tried.
        memory: (a, b): reading n bytes takes at most a * n + b bytes.
        mutator: keeps the form of the file, so that what lies behind it is reached.
        tokens: words of the format.
    """

    name: str
    reads: str
    code: tuple[str, ...]
    reader: Callable[[Scratch], Reader]
    seeds: Callable[[], list[bytes]]
    max_len: int
    memory: tuple[int, int]
    mutator: Mutator | None = None
    tokens: tuple[bytes, ...] = ()


class Scratch:
    """Files in memory that are written again for every execution."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def file(self, name: str) -> ScratchFile:
        """One of that name."""
        return ScratchFile(self.folder / name)


class ScratchFile:
    """A file whose content changes; its name does not."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)

    def write(self, data: bytes) -> Path:
        """Its path, with that content."""
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, data, 0)
        return self.path


def prepared(target: Target, scratch: Scratch) -> Reader:
    """The reader, once it has read the seeds: what it imports then is not a file's memory."""
    read = target.reader(scratch)
    for seed in target.seeds():
        survives(read, seed, target.name)
    return read


def survives(read: Reader, data: bytes, name: str) -> bool:
    """Whether a file is read. An error has to be a ValueError or OSError that names it.

    Raises FindingError where it does not name it, or where one small file took seconds; what else
    the reader raises goes through.
    """
    before = time.process_time()
    try:
        read(data)
        fine = True
    except (ValueError, OSError) as error:
        if name not in str(error):
            raise FindingError(f"an error that does not name the file: {error!r}") from error
        fine = False
    took = time.process_time() - before
    if took > SLOWEST:
        raise FindingError(f"{took:.1f} s for {len(data)} bytes")
    return fine


def peak_memory(read: Reader, data: bytes, name: str) -> int:
    """`survives` with the bytes that Python and NumPy held at most while it ran."""
    tracemalloc.start()
    try:
        survives(read, data, name)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def check_memory(target: Target, read: Reader, data: bytes) -> int:
    """`peak_memory`; raises FindingError where it is above the limit of the target."""
    peak = peak_memory(read, data, target.name)
    times, constant = target.memory
    if peak > times * len(data) + constant:
        raise FindingError(f"{peak:,} bytes of memory for a file of {len(data):,}")
    return peak
