"""The preloaded part, events.c: built, put before this process, and told when to strike."""

from __future__ import annotations

import ctypes
import mmap
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("events.c")
VARIABLE = "DEEPLAB_KILL_CONTROL"
# victims: the process that a run begins with; the one that causes the event
MAIN, SELF = -1, -2
WHEN = {"before": 0, "within": 1, "after": 2}


class Control(ctypes.Structure):
    """`struct control` of events.c, in memory that all processes of a run share."""

    _fields_ = [
        ("count", ctypes.c_long),
        ("at", ctypes.c_long),
        ("when", ctypes.c_int),
        ("signal", ctypes.c_int),
        ("victim", ctypes.c_int),
        ("folder", ctypes.c_char * 1024),
        ("what", ctypes.c_char * 1024),
        ("kinds", ctypes.c_char * 8192),
    ]

    def watch(self, folder: Path) -> None:
        """Counts from 0 what happens to files below `folder`, and disturbs nothing."""
        self.count = self.at = 0
        self.folder, self.what = f"{folder}/".encode(), b""

    def strike(self, folder: Path, at: int, when: str, signal: int, victim: int = 0) -> None:
        """Sends `signal` to a process, or (0) the whole group of whoever causes event `at`."""
        self.watch(folder)
        self.when, self.signal, self.victim = WHEN[when], signal, victim
        self.at = at

    def writes(self) -> set[int]:
        """The events that were writes, and may stop in their middle."""
        kinds = bytes(ctypes.string_at(ctypes.addressof(self) + Control.kinds.offset, 8192))
        return {n for n in range(1, min(self.count + 1, 8192)) if kinds[n : n + 1] in b"wp"}

    def is_me(self) -> None:
        """Of the process that a run begins with, where it alone is to be struck."""
        if self.victim == MAIN:
            self.victim = os.getpid()

    def rest(self) -> None:
        """Nothing is counted any more."""
        self.folder = b""


def compiler() -> str | None:
    """Of C, or None."""
    return shutil.which(os.environ.get("CC", "cc"))


def control() -> Control:
    """Of this process, which `begin_again` has started."""
    with open(os.environ[VARIABLE], "r+b") as file:
        return Control.from_buffer(mmap.mmap(file.fileno(), ctypes.sizeof(Control)))


def is_there() -> bool:
    """Whether the preloaded part was put before this process."""
    return VARIABLE in os.environ


def begin_again(module: str, folder: Path) -> None:
    """Starts `python -m module` in place of this process, with the preloaded part before it.

    Raises RuntimeError without a C compiler.
    """
    found = compiler()
    if found is None:
        raise RuntimeError("no C compiler: expected cc, or $CC, for trust/kill/events.c")
    library, memory = folder / "events.so", folder / "control"
    line = [found, "-shared", "-fPIC", "-O1", "-o", str(library), str(SOURCE), "-ldl"]
    subprocess.run(line, check=True)
    memory.write_bytes(bytes(ctypes.sizeof(Control)))
    before = [os.environ["LD_PRELOAD"]] if "LD_PRELOAD" in os.environ else []
    os.environ["LD_PRELOAD"] = " ".join([*before, str(library)])
    os.environ[VARIABLE] = str(memory)
    # a forked child has but one thread, and must not wait for those that its parent had
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = "1"
    os.execv(sys.executable, [sys.executable, "-m", module, *sys.argv[1:]])


def scratch() -> Path:
    """A folder of this process for what it builds and runs."""
    return Path(tempfile.mkdtemp(prefix="deeplab-kill-"))
