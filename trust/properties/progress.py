"""What is tried now, in a file that outlives a crash of the process."""

from __future__ import annotations

import os
from collections import Counter
from typing import Any

COUNTS: Counter[str] = Counter()
"""How many calls were made, and how many of them refused, in this process."""

_file: int | None = None


def to(path: str) -> None:
    """Writes every example to a file before it is tried."""
    global _file
    _file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)


def now(name: str, *example: Any) -> None:
    """Says what is tried next."""
    COUNTS["executions"] += 1
    if _file is not None:
        text = f"{COUNTS['executions']}\n{name} {example!r}\n".encode()
        os.pwrite(_file, text, 0)
        os.ftruncate(_file, len(text))


def refused() -> None:
    """Counts an example that got a documented error."""
    COUNTS["refused"] += 1
