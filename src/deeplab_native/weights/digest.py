"""The SHA-256 of a weights file, before anything of the file is parsed."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

_DIGEST = re.compile(r"[0-9a-f]{64}")
_BLOCK = 1 << 20  # bytes read at a time


def sha256_of(path: Path) -> str:
    """In hexadecimal; raises OSError."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def check_sha256(path: Path, expected: str, *, said: str = "expected") -> None:
    """Raises ValueError with both digests where a file has another one; OSError.

    expected: 64 hexadecimal digits; TypeError or ValueError for something else. said: by whom.
    """
    if not isinstance(expected, str):
        raise TypeError(f"sha256: expected a text, got {type(expected).__name__}")
    if not _DIGEST.fullmatch(expected.lower()):
        raise ValueError(f"sha256: expected 64 hexadecimal digits, got {expected[:80]!r}")
    found = sha256_of(path)
    if found != expected.lower():
        raise ValueError(
            f"{path}: its SHA-256 is {found}, {said} {expected.lower()} (get the file again, "
            "from where you trust it)"
        )


def digest_in_name(path: Path) -> str | None:
    """What a file of a hub's cache is called: the digest that the hub said of it.

    None where it said none: of small files, or of caches without symbolic links.
    """
    name = path.resolve().name
    return name if _DIGEST.fullmatch(name) else None
