"""Changes within files that have lengths, checksums or compression around their content.

Half of the changes are blind; the others keep the form of the file, see `mutators`.
"""

from __future__ import annotations

import io
import json
import random
import struct
import zipfile
import zlib
from typing import Any

from .mutators import Blind

# What readers take for granted that it is not there
_ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1, 2**31, 2**63, 2**64, 10**40, 0.5, -0.0, 1e308, float("nan"),
    float("inf"), "", "a", "0", "-1", "\ud800", "/", "..", [], {}, [[]], [0], [0, 0], {"a": 0},
)  # fmt: skip
_DEEPEST = 900


def json_text(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """A value, key or entry of a JSON document is another one, gone, or there twice."""
    rng = random.Random(seed)
    return blind(data, most) if rng.random() < 0.5 else _json(data, rng) or blind(data, most)


def _json(data: bytes, rng: random.Random) -> bytes:
    """b"" where it is no JSON."""
    try:
        changed = _changed(json.loads(data), rng)
        return json.dumps(changed, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return b""


def _changed(value: Any, rng: random.Random) -> Any:
    if not isinstance(value, dict | list) or not value or rng.random() < 0.1:
        return _other(value, rng)
    inside = list(value.items()) if isinstance(value, dict) else list(enumerate(value))
    i = rng.randrange(len(inside))
    key, old = inside[i]
    change = rng.randrange(12)
    if change == 0:
        del inside[i]
    elif change == 1 and isinstance(value, list):
        inside.insert(i, inside[rng.randrange(len(inside))])
    elif change == 1:
        inside[i] = (str(rng.choice(_ODD)), old)
    elif change == 2:
        inside[i] = (key, inside[rng.randrange(len(inside))][1])
    else:
        inside[i] = (key, _changed(old, rng))
    return dict(inside) if isinstance(value, dict) else [v for _, v in inside]


def _other(value: Any, rng: random.Random) -> Any:
    if isinstance(value, str) and value[:1] in "{[" and rng.random() < 0.8:
        inner = _json(value.encode("utf-8", "replace"), rng)  # JSON within JSON
        if inner:
            return inner.decode()
    if isinstance(value, int | float) and rng.random() < 0.5:
        return rng.choice((value + 1, value - 1, -value, value * 2, value * 1000, str(value)))
    if rng.random() < 0.02:
        for _ in range(rng.randrange(_DEEPEST)):
            value = [value]
        return value
    return rng.choice(_ODD)


def safetensors(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """The header is changed, and its length is right again."""
    rng = random.Random(seed)
    length = int.from_bytes(data[:8], "little")
    if len(data) < 10 or not 0 < length <= len(data) - 8 or rng.random() < 0.25:
        return blind(data, most)
    header, tensors = data[8 : 8 + length], data[8 + length :]
    change = rng.random()
    if change < 0.6:
        header = _json(header, rng) or blind(header, most)
    elif change < 0.9:
        header = blind(header, most - len(tensors) - 8 if most > len(tensors) + 8 else 1)
    else:
        tensors = blind(tensors or b"\0", most)
    return len(header).to_bytes(8, "little") + header + tensors


def zipped(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """A member's content or name is changed, or it is gone or compressed; checksums are right."""
    rng = random.Random(seed)
    if data[:2] != b"PK" or rng.random() < 0.5:
        return blind(data, most)
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            if sum(info.file_size for info in archive.infolist()) > 1 << 20:
                return blind(data, most)
            members = [(info.filename, archive.read(info)) for info in archive.infolist()]
    except Exception:
        return blind(data, most)
    if not members:
        return blind(data, most)
    i = rng.randrange(len(members))
    name, content = members[i]
    change = rng.random()
    if change < 0.7:
        room = max(16, most - len(data) + len(content))
        members[i] = (name, blind(content or b"\0", room))
    elif change < 0.8:
        members[i] = (blind(name.encode(), 64).decode("utf-8", "replace")[:64], content)
    elif change < 0.9:
        del members[i]
    else:
        members.append(members[i])
    packed = zipfile.ZIP_DEFLATED if rng.random() < 0.1 else zipfile.ZIP_STORED
    try:
        return rezipped(members, packed)
    except Exception:  # names that zipfile does not write
        return blind(data, most)


def rezipped(members: list[tuple[str, bytes]], packed: int = zipfile.ZIP_STORED) -> bytes:
    """A zip file of (name, content)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", packed) as archive:
        for name, content in members:
            archive.writestr(zipfile.ZipInfo(name or "a"), content, packed)
    return out.getvalue()


def png(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """A chunk is changed, gone or there twice, pixels before they are compressed."""
    rng = random.Random(seed)
    if data[:8] != b"\x89PNG\r\n\x1a\n" or rng.random() < 0.5:
        return blind(data, most)
    chunks, at = [], 8
    while at + 12 <= len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    if not chunks:
        return blind(data, most)
    i = rng.randrange(len(chunks))
    kind, content = chunks[i]
    change = rng.random()
    if change < 0.7:
        if kind == b"IDAT" and rng.random() < 0.7:
            try:
                content = zlib.decompress(content)[: 1 << 16]
            except zlib.error:
                return blind(data, most)
            content = zlib.compress(blind(content or b"\0", 1 << 12), 1)
        else:
            content = blind(content or b"\0", 256)
        chunks[i] = (kind, content)
    elif change < 0.8:
        chunks[i] = (rng.choice((b"tRNS", b"PLTE", b"tEXt", b"iTXt", b"zTXt", b"eXIf", b"acTL",
            b"fcTL", b"fdAT", b"iCCP", b"gAMA", b"cHRM", b"sRGB", b"pHYs", b"IDAT", b"IEND")),
            content)  # fmt: skip
    elif change < 0.9:
        del chunks[i]
    else:
        chunks.insert(i, chunks[i])
    return data[:8] + b"".join(
        struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks
    )


def tar(data: bytes, most: int, seed: int, blind: Blind) -> bytes:
    """Blind changes, after which the headers' checksums are right again."""
    rng = random.Random(seed)
    changed = bytearray(blind(data, most))
    if rng.random() < 0.25:
        return bytes(changed)
    for at in range(0, len(changed) - 511, 512):
        block = changed[at : at + 512]
        if block[257:262] == b"ustar":
            block[148:156] = b" " * 8
            changed[at + 148 : at + 156] = b"%06o\0 " % sum(block)
    return bytes(changed)
