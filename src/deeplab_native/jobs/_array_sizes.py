"""How much memory NumPy's files ask for, by their headers, before anything is unpacked."""

from __future__ import annotations

import tokenize
import zipfile
from pathlib import Path
from typing import IO

import numpy as np

MOST_HEADER = 10_000  # bytes; NumPy itself refuses longer ones, once it has read them
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def array_bytes(path: Path, file: IO[bytes]) -> int:
    """By the header of a .npy file, which can say anything; `file` is behind it then.

    Raises ValueError where it is none of a plain array.
    """
    try:
        version = np.lib.format.read_magic(file)
        if version != (1, 0):  # whose header can claim 4 GB, for which Python makes room
            if int.from_bytes(file.read(4), "little") > MOST_HEADER:
                raise ValueError
            file.seek(8)
        shape, _, dtype = _HEADERS[version](file)
        size = dtype.itemsize
        for length in shape:
            size *= int(length)
        if dtype.hasobject or size < 0:
            raise ValueError
    except (
        ValueError, KeyError, TypeError, SyntaxError, OverflowError, RecursionError,
        tokenize.TokenError,
    ):  # fmt: skip
        raise ValueError(f"{path}: not a plain array of numbers (save one by numpy.save)") from None
    return size


def archive_bytes(path: Path, file: IO[bytes]) -> int:
    """By the headers of all arrays of a .npz file, and what the archive says of their bytes.

    Raises ValueError where it has other things, or is damaged.
    """
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if not members or any(not member.filename.endswith(".npy") for member in members):
                raise ValueError(f"{path}: a zip file with other things than arrays (give a .npz)")
            sizes = [member_bytes(path, archive, member) for member in members]
    except (zipfile.BadZipFile, OSError, EOFError, RuntimeError, NotImplementedError):
        raise ValueError(f"{path}: damaged or cut off (save it again)") from None
    return max(sum(member.file_size for member in members), *sizes)


def member_bytes(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> int:
    """`array_bytes` of a member of a .npz file; raises what zipfile does, too."""
    with archive.open(member) as one:
        return array_bytes(path, one)
