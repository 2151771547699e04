"""The process that libFuzzer runs in; it ends with it. Started by `trust.fuzz_readers`.

`python -m trust.fuzzing.child TARGET FOLDER SAMPLES [libFuzzer's arguments]`: FOLDER is for scratch
files, SAMPLES a file for what was measured, see `Measured`.
"""

from __future__ import annotations

import os
import resource
import shlex
import struct
import sys
import time
import warnings
from pathlib import Path
from typing import NamedTuple

MEGABYTE = 1 << 20
ROOM = 512 * MEGABYTE  # of addresses for an execution: a larger allocation fails at once
_RELIMITED_EVERY = 1 << 16  # executions: libFuzzer and atheris keep some 50 bytes of each
TRACED_EVERY = 512  # executions; tracing costs several times of what most readers take


class Measured(NamedTuple):
    """Of one run so far: bytes that a traced execution took at most, and the slowest in seconds."""

    peak: float = 0.0
    slowest: float = 0.0

    def pack(self) -> bytes:
        """For `SAMPLES`."""
        return struct.pack("<2d", *self)

    @classmethod
    def read(cls, path: Path) -> Measured:
        """From `SAMPLES`."""
        content = path.read_bytes()
        return cls(*struct.unpack("<2d", content)) if content else cls()


def main(name: str, folder: str, samples: str, *arguments: str) -> None:
    import atheris
    import torch

    from trust.fuzzing.target import Scratch, check_memory, prepared, survives
    from trust.fuzzing.targets import TARGETS

    target = TARGETS[name]
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    with atheris.instrument_imports(include=["deeplab_native"]):
        read = prepared(target, Scratch(Path(folder)))
    if "-merge=1" not in arguments:  # which starts others, that would inherit the limit
        _limit_addresses()
    out = os.open(samples, os.O_WRONLY | os.O_CREAT)
    count, measured = 0, Measured()

    def execute(data: bytes) -> None:
        nonlocal count, measured
        count += 1
        peak = measured.peak
        start = time.process_time()
        if count % _RELIMITED_EVERY == 0:
            _limit_addresses()
        if count % TRACED_EVERY == 0:
            peak = max(peak, check_memory(target, read, data))
            took = 0.0  # slower than it is
        else:
            survives(read, data, name)
            took = time.process_time() - start
        if took > measured.slowest or peak > measured.peak:
            measured = Measured(peak, max(took, measured.slowest))
            os.pwrite(out, measured.pack(), 0)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        assert target.mutator is not None
        return target.mutator(data, most, seed, atheris.Mutate)[:most]

    options = {} if target.mutator is None else {"custom_mutator": mutate}
    # libFuzzer starts itself again by this line to minimise a corpus
    itself = shlex.join([sys.executable, "-m", "trust.fuzzing.child", name, folder, samples])
    atheris.Setup([itself, *arguments], execute, **options)
    atheris.Fuzz()


def _limit_addresses() -> None:
    """No more than `ROOM` above what the process has: a bomb becomes a MemoryError."""
    now = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    _, most = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, most))


if __name__ == "__main__":
    main(*sys.argv[1:])
