"""Errors as one line for a user."""

from __future__ import annotations

import errno
import unicodedata

# What the package and the file system raise for input that cannot be used; anything else is a fault
# of ours or of a library, and is reported with its type
_EXPECTED = (ValueError, TypeError, OSError, RuntimeError, MemoryError, ImportError)

# What a user can do about what the system refuses
_ADVICE = {
    errno.ENOSPC: "make room on the disk, or write elsewhere",
    errno.EDQUOT: "make room within the quota, or write elsewhere",
    errno.EFBIG: "raise the limit of `ulimit -f`, or write elsewhere",
    errno.EROFS: "write elsewhere",
    errno.EACCES: "check its permissions",
    errno.EPERM: "check its permissions",
    errno.EIO: "check the disk",
    errno.EMFILE: "raise the limit of `ulimit -n`, or use fewer workers",
    errno.ENFILE: "the whole system has too many open: wait, or use fewer workers",
    errno.ENAMETOOLONG: "give a shorter name",
    errno.EAGAIN: "raise the limit of `ulimit -u`, or use fewer workers and threads",
    errno.ENOMEM: "use fewer workers, or smaller images",
}
_TORCHS = "DefaultCPUAllocator: "
_OUT_OF_MEMORY = "out of memory: {} (use fewer workers, smaller images, or a scale below 1)"


_UNSEEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}  # of Unicode: controls, directions, halves of pairs
_KEPT = "\n\t\u200c\u200d"  # the last two are between letters and in emoji


def printable(text: str) -> str:
    """Text for a terminal: what would move its cursor, colour it or turn its lines is escaped.

    Names of files may hold anything, as the sequences that make a terminal write to its own input.
    """
    if text.isprintable():
        return text
    hidden = (c not in _KEPT and unicodedata.category(c) in _UNSEEN for c in text)
    escaped = (
        c.encode("unicode_escape").decode() if h else c for c, h in zip(text, hidden, strict=True)
    )
    return "".join(escaped)


def one_line(error: BaseException) -> str:
    """The message without line breaks, with the type of errors that nobody expects.

    What the system refuses ends with what to do about it, in parentheses.
    """
    if isinstance(error, OSError) and error.strerror:
        # without Python's "[Errno 2]"
        text = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        advice = _ADVICE.get(error.errno or 0)
        return " ".join(f"{text} ({advice})".split()) if advice else text
    text = " ".join(str(error).split())
    if _is_out_of_memory(error, text):
        return _OUT_OF_MEMORY.format(text.partition(_TORCHS)[2] or text or "stopped")
    if not text or not isinstance(error, _EXPECTED):
        text = f"{type(error).__name__}: {text}"
    return text


def _is_out_of_memory(error: BaseException, text: str) -> bool:
    """Not where the message says already what was too large and what to do."""
    if isinstance(error, MemoryError):
        return not text or text.startswith(("out of memory", "Unable to allocate"))
    return isinstance(error, RuntimeError) and _TORCHS in text
