"""Changes that keep the form of a file: lengths, checksums, compression.

Blind changes stop at the first length or checksum that no longer fits, and what lies behind it is
never reached. Half of the changes are still blind.
"""

from __future__ import annotations

import random
from collections.abc import Callable

Blind = Callable[[bytes, int], bytes]


def caffemodel(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """A field of a message, or of one within it, is changed, left out or repeated."""
    if seed % 8:  # blind changes do well here, and are ten times as fast
        return blind(data, most)
    return _message(data, random.Random(seed), most, blind)


def _message(data: bytes, rng: random.Random, most: int, blind: Blind) -> bytes:
    fields = _fields(data)
    if not fields:
        return blind(data, most)
    i = rng.randrange(len(fields))
    front, content = fields[i]
    change = rng.randrange(8)
    if change == 0:
        del fields[i]
    elif change == 1:
        fields.insert(rng.randrange(len(fields) + 1), fields[i])
    elif content is None:
        fields[i] = (blind(front, len(front) + 8), None)
    else:
        inner = _message if change < 6 else lambda d, _, m, b: b(d, m)
        fields[i] = (front, inner(content, rng, max(1, most - len(data) + len(content)), blind))
    return b"".join(f if c is None else f + _varint(len(c)) + c for f, c in fields)


def _fields(data: bytes) -> list[tuple[bytes, bytes | None]]:
    """(tag and value, None) or (tag, content of a string); [] where it is no message."""
    fields: list[tuple[bytes, bytes | None]] = []
    at = 0
    while at < len(data):
        start = at
        tag, at = _read_varint(data, at)
        kind = tag & 7
        if not tag >> 3 or kind not in (0, 1, 2, 5):
            return []
        behind = at
        if kind == 2:
            length, at = _read_varint(data, at)
            if at + length > len(data):
                return []
            fields.append((data[start:behind], data[at : at + length]))
            at += length
            continue
        at = _read_varint(data, at)[1] if kind == 0 else at + (8 if kind == 1 else 4)
        if at > len(data):
            return []
        fields.append((data[start:at], None))
    return fields


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    for i in range(at, min(len(data), at + 10)):
        value |= (data[i] & 127) << shift
        shift += 7
        if data[i] < 128:
            return value, i + 1
    return 0, len(data) + 1


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    return bytes([*out, value])
