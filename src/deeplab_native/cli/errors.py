"""Errors of the library in the words of the command line."""

from __future__ import annotations

import errno
import re
import traceback
from pathlib import Path

from .._errors import one_line

# How a message says what to do: words in parentheses at its end, "(give another name)", which a
# shape like "(20, 30)" or "(labels, H, W)" is not; or, as the package's own checks say it, what
# they "expected"
_ADVICE = re.compile(r"\([\w-]+ [^()]*\)$|[:;] expected |did you mean ")
# The jobs name an argument of theirs in backticks, where it matters with its value
_SWITCHES = {"`exif=False`": "--no-exif"}
_ARGUMENT = re.compile(r"`(\w+)`")
STANDARD_OUTPUT = "standard output"
_OF_OUTPUT = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF}
_PRINTS = {"click", "rich", "typer"}  # folders of the code that prints, beside this one
# where the option has another name
_OPTIONS = {
    "count": "images",
    "names": "list",
    "out": "output",
    "probabilities": "save-probabilities",
}


def in_options(text: str) -> str:
    """A message of `deeplab_native.jobs`, with the options in place of its arguments."""
    for argument, option in _SWITCHES.items():
        text = text.replace(argument, option)
    return _ARGUMENT.sub(
        lambda found: f"--{_OPTIONS.get(found[1], found[1].replace('_', '-'))}", text
    )


def of_output(error: BaseException) -> BaseException:
    """With the name of standard output, where what prints there failed."""
    if isinstance(error, OSError) and error.filename is None and error.errno in _OF_OUTPUT:
        *_, last = traceback.extract_tb(error.__traceback__)
        file = Path(last.filename)
        if file.parent == Path(__file__).parent or _PRINTS.intersection(file.parts):
            error.filename = STANDARD_OUTPUT
    return error


def with_advice(error: BaseException) -> str:
    """Where the line does not say what to do, it says how to find out more."""
    text = in_options(one_line(error))
    return text if _ADVICE.search(text) else f"{text} (--debug shows where)"
