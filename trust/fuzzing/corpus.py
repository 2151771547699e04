"""The files that a target has been seen to treat differently: one text file for each target.

A line is one file in base64, in order, so that git shows which came and went.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterable
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "corpus"


def read_corpus(name: str, folder: Path = FOLDER) -> list[bytes]:
    """The files of a target; none where there is no corpus yet."""
    path = folder / f"{name}.txt"
    lines = path.read_text(encoding="ascii").splitlines() if path.exists() else []
    return [base64.b64decode(line, validate=True) for line in lines]


def write_corpus(name: str, files: Iterable[bytes], folder: Path = FOLDER) -> Path:
    """Writes the corpus of a target, by length and then by content."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.txt"
    lines = [base64.b64encode(file).decode() for file in sorted(set(files), key=_order)]
    path.write_text("".join(f"{line}\n" for line in lines), encoding="ascii")
    return path


def _order(file: bytes) -> tuple[int, bytes]:
    return len(file), file


def unpack(files: Iterable[bytes], folder: Path) -> None:
    """Each as a file of its own, named by its content, as libFuzzer keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    for file in files:
        (folder / hashlib.sha1(file).hexdigest()).write_bytes(file)
