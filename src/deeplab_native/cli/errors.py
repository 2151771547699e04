"""Errors as one line for a user."""

from __future__ import annotations

import re

# What the package and the file system raise for input that cannot be used; anything else is a fault
# of ours or of a library, and is reported with its type
_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError)

# How a message says what to do: words in parentheses at its end, "(give another name)", which a
# shape like "(20, 30)" or "(labels, H, W)" is not; or, as the package's own checks say it, what
# they "expected"
_ADVICE = re.compile(r"\([\w-]+ [^()]*\)$|[:;] expected |did you mean ")


def one_line(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        # without Python's "[Errno 2]"
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    if not text or not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {text}"
    return text


def with_advice(error: BaseException) -> str:
    """Where the line does not say what to do, it says how to find out more."""
    text = one_line(error)
    return text if _ADVICE.search(text) else f"{text} (--debug shows where)"
