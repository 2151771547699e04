"""Errors as one line for a user."""

from __future__ import annotations

# What the package and the file system raise for input that cannot be used; anything else is a fault
# of ours or of a library, and is reported with its type
_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError)


def one_line(error: BaseException) -> str:
    """The message without line breaks, with the type of errors that nobody expects."""
    if isinstance(error, OSError) and error.strerror:
        # without Python's "[Errno 2]"
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    text = " ".join(str(error).split())
    if not text or not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {text}"
    return text
