"""The wire format of Protocol Buffers, as far as reading a file needs it.

https://protobuf.dev/programming-guides/encoding: a message is a sequence of fields, each a tag
(number and wire type) and a value. No schema is needed to step over what is not known. Nothing is
copied but numbers that were not packed, and no length is believed before it was compared with the
bytes that there are.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
_FIXED = {FIXED64: 8, FIXED32: 4}
_MAX_FIELDS = 1_000_000  # ResNet-101 at three scales has some 30,000


class Field(NamedTuple):
    """A field whose value lies at `start`..`end` of the file; `varint` is the value of a VARINT."""

    number: int
    kind: int
    at: int
    start: int
    end: int
    varint: int


class WireError(ValueError):
    """What is wrong, and at which byte of the file."""

    def __init__(self, at: int, problem: str) -> None:
        super().__init__(f"byte {at}: {problem}")


class WireFile:
    """A file in memory, or mapped there, and how many more fields will be read of it."""

    def __init__(self, data: bytes | mmap.mmap) -> None:
        self.data = data
        self.fields_left = _MAX_FIELDS

    def message(self, start: int, end: int) -> Message:
        """The message in bytes `start` to `end` - 1; its fields are read as it is iterated."""
        return Message(self, start, end)


class Message:
    """The fields of one message, in the order of the file.

    Iterating raises WireError where the bytes are no such message. `run` takes what follows the
    field just given, so that the loop goes on behind it.
    """

    def __init__(self, file: WireFile, start: int, end: int) -> None:
        self._file, self._data = file, file.data
        self._at, self._end = start, end

    def __iter__(self) -> Iterator[Field]:
        while self._at < self._end:
            self._file.fields_left -= 1
            if self._file.fields_left < 0:
                raise WireError(self._at, f"more than {_MAX_FIELDS} fields")
            at = self._at
            tag, start = self._varint(at)
            number, kind = tag >> 3, tag & 7
            if not 1 <= number < 1 << 29:
                raise WireError(at, f"field number {number}, which there is none of")
            value = 0
            if kind == VARINT:
                value, end = self._varint(start)
            elif kind in _FIXED:
                end = start + _FIXED[kind]
            elif kind == BYTES:
                length, start = self._varint(start)
                end = start + length
            else:
                raise WireError(at, f"wire type {kind}, which is not in use")
            if end > self._end:
                raise WireError(
                    at, f"field {number} is {end - start} bytes long, {self._end - start} are left"
                )
            self._at = end
            yield Field(number, kind, at, start, end, value)

    def varints(self) -> Iterator[int]:
        """The message as packed numbers, instead of fields."""
        while self._at < self._end:
            value, self._at = self._varint(self._at)
            yield value

    def run(self, field: Field, dtype: np.dtype[Any]) -> np.ndarray:
        """(n,) the value of `field` and of the fields right behind it with the same tag.

        So are numbers stored one by one, each with its tag; a network may have a hundred million.
        """
        width = 1 + dtype.itemsize
        tag = field.number << 3 | field.kind
        pieces = [np.frombuffer(self._data, dtype, 1, field.start)]
        look = 64  # grows, so that many short runs in a large file take no longer than a long one
        while tag < 128:
            n = min(look, (self._end - self._at) // width)
            rows = np.frombuffer(self._data, np.uint8, n * width, self._at).reshape(n, width)
            same = rows[:, 0] == tag
            n_same = n if same.all() else int(same.argmin())
            if n_same:
                pieces.append(np.ascontiguousarray(rows[:n_same, 1:]).view(dtype)[:, 0])
            self._at += n_same * width
            if n_same < look:
                break
            look *= 2
        return np.concatenate(pieces)

    def _varint(self, at: int) -> tuple[int, int]:
        """The number at `at`, and where it ends."""
        if at < self._end and self._data[at] < 0x80:  # most are of one byte
            return self._data[at], at + 1
        value = 0
        for i in range(10):  # 64 bits in groups of 7
            if at + i >= self._end:
                raise WireError(at, "the message ends within a number")
            byte = self._data[at + i]
            value |= (byte & 0x7F) << (7 * i)
            if byte < 0x80:
                return value & ((1 << 64) - 1), at + i + 1
        raise WireError(at, "a number of more than 10 bytes")
