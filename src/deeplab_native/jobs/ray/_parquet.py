"""Parquet files of others: opened only where no column has a type that runs code when it is read.

A column may say that it is of an extension type. Who is asked for its values, with some versions
already for its schema, is whoever registered that type in this process; those of Ray unpickle what
the file holds.
"""

from __future__ import annotations

import base64
import re
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from pyarrow.parquet import ParquetFile

_MAGIC = b"PAR1"
_MOST_FOOTER = 1 << 28  # bytes
_BASE64 = re.compile(rb"[A-Za-z0-9+/]{16,}")
_EXTENSION = b"ARROW:extension:"  # in front of a type's name, in Arrow's schema of a file


class ShardError(Exception):
    """A shard ends before its end, or is none; the samples before that are whole."""


def open_parquet(file: IO[bytes]) -> ParquetFile:
    """The file behind a stream that can seek.

    Raises OSError or pyarrow's own error where it is none, or is cut off, and ShardError where a
    column is of an extension type.
    """
    import pyarrow.parquet

    _check_footer(file)
    return pyarrow.parquet.ParquetFile(file)


def _check_footer(file: IO[bytes]) -> None:
    """Of a footer's bytes, as whoever parses them makes the types.

    Arrow's schema is in base64 there, between other things: it is looked for from each of four
    letters on.
    """
    end = file.seek(0, 2)
    file.seek(max(0, end - 8))
    tail = file.read(8)
    length = int.from_bytes(tail[:4], "little")
    if tail[4:] != _MAGIC or not 0 < length <= min(end - 8, _MOST_FOOTER):
        raise OSError("no Parquet file, or its end is missing")
    file.seek(end - 8 - length)
    footer = file.read(length)
    file.seek(0)
    for found in _BASE64.findall(footer):
        for start in range(4):
            text = found[start : start + (len(found) - start) // 4 * 4]
            if _EXTENSION in base64.b64decode(text):
                raise ShardError(
                    "columns of an extension type, which could run any code, are not read (write "
                    "it with plain columns: bytes, strings and numbers)"
                )
