"""The command of this process, as a report says to repeat it."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextvars import ContextVar

_PROGRAM = "deeplab-native"
# they say how a run goes on, or what is printed; without them it is the same from the start
_OF_THIS_RUN = {
    "--debug",
    "--verbose",
    "-v",
    "-vv",
    "--json",
    "--resume",
    "--no-resume",
    "--overwrite",
}
_arguments: ContextVar[tuple[str, ...]] = ContextVar("arguments", default=())


def remember(arguments: Sequence[str]) -> None:
    """What `deeplab-native` was given."""
    _arguments.set(tuple(arguments))


def command() -> str:
    """For a shell, on one line."""
    kept = [one for one in _arguments.get() if one not in _OF_THIS_RUN]
    return shlex.join([_PROGRAM, *kept])
