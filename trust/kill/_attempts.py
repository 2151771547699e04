"""One attempt at a run: forked from a process that has imported everything, or started anew."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from deeplab_native.cli import main as command_line

from . import _events, _tiny

SECONDS = 600  # that only a hang exceeds
IMPORTED = "DEEPLAB_KILL_IMPORTED"  # a file that gets the names of all modules, at the end
Commands = Sequence[Sequence[str]]


class Ended(NamedTuple):
    """Of an attempt.

    Attributes:
        status: of the process, negative for a signal.
        seconds: that it took.
        log: what it said.
    """

    status: int
    seconds: float
    log: str


def forked(commands: Commands, log: Path, meanwhile: Callable[[int], None] | None = None) -> Ended:
    """`deeplab-native` with each of the arguments, in a child that is forked from this process.

    meanwhile: is called with the child's number, which is also that of its process group.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    start = time.monotonic()
    child = os.fork()
    if child == 0:
        _run(commands, log)
    return _wait(child, start, log, meanwhile)


def _run(commands: Commands, log: Path) -> None:
    """In the child; does not return."""
    status = 1
    try:
        os.setsid()
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        for number in (1, 2):
            os.dup2(said, number)
        status = 0
        _events.control().is_me()
        for arguments in commands:
            sys.argv = ["deeplab-native", *arguments]
            try:
                command_line.main()
            except SystemExit as end:
                status = int(end.code or 0)
            if status:
                break
    except KeyboardInterrupt:
        status = 130
    except BaseException:
        traceback.print_exc()
        status = 1
    finally:
        if IMPORTED in os.environ:
            Path(os.environ[IMPORTED]).write_text("\n".join(sys.modules))
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def started(commands: Commands, log: Path, meanwhile: Callable[[int], None] | None = None) -> Ended:
    """The same as `python -m deeplab_native`, a process of its own for each of them, in a group."""
    start = time.monotonic()
    environment = {**os.environ, _tiny.COMMANDS: "\n".join("\t".join(one) for one in commands)}
    with log.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-m", _tiny.__name__],
            stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True,
            env=environment,
        )  # fmt: skip
    if meanwhile is not None:
        meanwhile(process.pid)
    try:
        status = process.wait(SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise TimeoutError(f"{commands}: no end within {SECONDS} s: {_read(log)}") from None
    return Ended(status, time.monotonic() - start, _read(log))


def _wait(child: int, start: float, log: Path, meanwhile: Callable[[int], None] | None) -> Ended:
    if meanwhile is not None:
        meanwhile(child)
    while True:
        found, status = os.waitpid(child, os.WNOHANG)
        if found:
            break
        if time.monotonic() - start > SECONDS:
            os.killpg(child, signal.SIGKILL)
            os.waitpid(child, 0)
            raise TimeoutError(f"no end within {SECONDS} s: {_read(log)}")
        time.sleep(0.002)
    return Ended(os.waitstatus_to_exitcode(status), time.monotonic() - start, _read(log))


def _read(log: Path) -> str:
    return log.read_text(errors="replace") if log.exists() else ""
