"""Caffe's `.caffemodel` files: the layers of a `NetParameter` (caffe.proto) and their blobs.

Only field numbers are needed. NetParameter: layers = 2 (V1), layer = 100. LayerParameter: name = 1,
type = 2, blobs = 7. V1LayerParameter: layer = 1 (V0), name = 4, type = 5, blobs = 6. BlobProto:
num, channels, height, width = 1..4, data = 5, shape = 7 (dim = 1), double_data = 8.
"""

from __future__ import annotations

import math
import mmap
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from .protobuf import BYTES, FIXED32, FIXED64, VARINT, Field, WireError, WireFile

_V1_LAYERS, _LAYERS = 2, 100
_V1_TYPES = {4: "Convolution", 14: "InnerProduct"}
_MAX_NAME = 256  # bytes
_MAX_AXES = 32  # Caffe's own limit
_WIRE_TYPES = {VARINT: "a varint", FIXED64: "8 bytes", BYTES: "a string", FIXED32: "4 bytes"}


@dataclass
class Layer:
    """A layer that has blobs.

    Attributes:
        name: as in the net definition.
        kind: "Convolution", "InnerProduct", "BatchNorm", "Scale", ...; "V1 type 17" and the like
            for the numbers of old files that don't matter here.
        at: where the layer stands in the file, in bytes.
        blobs: float32 or float64 arrays; they look into the file, which stays mapped as long.
    """

    name: str = ""
    kind: str = ""
    at: int = 0
    blobs: list[np.ndarray] = field(default_factory=list)


def read_caffemodel(path: Path) -> list[Layer]:
    """The layers with weights, in the order of the file; what has none is left out.

    The file is mapped, not read: memory is taken only for numbers that are not packed, and for
    blobs in several pieces, never more than the file has.

    Raises:
        ValueError: the file is something else, or damaged; says at which byte.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        if file.seek(0, 2) == 0:
            raise ValueError(f"{path} is empty, or truncated")
        return parse_caffemodel(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ), path)


def parse_caffemodel(data: bytes | mmap.mmap, path: Path) -> list[Layer]:
    """`read_caffemodel` of bytes, or of a mapped file; errors name `path`."""
    wire = WireFile(data)
    try:
        layers = []
        for part in wire.message(0, len(data)):
            if part.number in (_V1_LAYERS, _LAYERS):
                _expect(part, BYTES)
                layers.append(_layer(wire, part, v1=part.number == _V1_LAYERS))
    except WireError as error:
        raise ValueError(
            f"{path} is neither safetensors nor a PyTorch file, and no caffemodel, or truncated: "
            f"{error}"
        ) from None
    layers = [layer for layer in layers if layer.blobs]
    if not layers:
        raise ValueError(f"{path} is no caffemodel with weights: no layer of it has blobs")
    return layers


def _expect(part: Field, *kinds: int) -> None:
    if part.kind not in kinds:
        wanted = " or ".join(_WIRE_TYPES[kind] for kind in kinds)
        raise WireError(
            part.at, f"field {part.number} should be {wanted}, it is {_WIRE_TYPES[part.kind]}"
        )


def _layer(wire: WireFile, whole: Field, *, v1: bool) -> Layer:
    layer = Layer(at=whole.at)
    name, kind, blobs = (4, 5, 6) if v1 else (1, 2, 7)
    for part in wire.message(whole.start, whole.end):
        if v1 and part.number == 1:
            raise WireError(
                part.at, "a layer of Caffe's first format (upgrade_net_proto_binary upgrades it)"
            )
        if part.number == name:
            layer.name = _text(wire, part)
        elif part.number == kind and v1:
            _expect(part, VARINT)
            layer.kind = _V1_TYPES.get(part.varint, f"V1 type {part.varint}")
        elif part.number == kind:
            layer.kind = _text(wire, part)
        elif part.number == blobs:
            _expect(part, BYTES)
            layer.blobs.append(_blob(wire, part))
    return layer


def _text(wire: WireFile, part: Field) -> str:
    _expect(part, BYTES)
    if part.end - part.start > _MAX_NAME:
        raise WireError(part.at, f"a name of {part.end - part.start} bytes, of {_MAX_NAME} at most")
    try:
        text = bytes(wire.data[part.start : part.end]).decode()
    except UnicodeDecodeError:
        raise WireError(part.at, "a name that is not UTF-8") from None
    if not text.isprintable():
        raise WireError(part.at, f"a name with control characters, {text!r}")
    return text


def _blob(wire: WireFile, whole: Field) -> np.ndarray:
    pieces: dict[int, list[np.ndarray]] = {5: [], 8: []}
    formats: dict[int, tuple[int, np.dtype[Any]]] = {
        5: (FIXED32, np.dtype("<f4")),
        8: (FIXED64, np.dtype("<f8")),
    }
    dims: list[int] | None = None
    legacy: dict[int, int] = {}
    message = wire.message(whole.start, whole.end)
    for part in message:
        if part.number in formats:
            fixed, dtype = formats[part.number]
            _expect(part, BYTES, fixed)
            if part.kind == fixed:
                pieces[part.number].append(message.run(part, dtype))
            elif (part.end - part.start) % dtype.itemsize:
                raise WireError(part.at, f"numbers of {dtype.itemsize} bytes do not fill it")
            else:
                count = (part.end - part.start) // dtype.itemsize
                if count:
                    pieces[part.number].append(np.frombuffer(wire.data, dtype, count, part.start))
        elif part.number == 7:
            _expect(part, BYTES)
            dims = (dims or []) + _dims(wire, part)
            if len(dims) > _MAX_AXES:
                raise WireError(part.at, f"a blob of more than {_MAX_AXES} axes")
        elif part.number in (1, 2, 3, 4):
            _expect(part, VARINT)
            legacy[part.number] = _size(part.varint, part.at)
    # as Caffe does it: the shape where there is one, and doubles where there are some
    if dims is None:
        dims = [legacy.get(i, 0) for i in (1, 2, 3, 4)]
    found = pieces[8] or pieces[5]
    count = sum(map(len, found))
    if count != math.prod(dims):
        raise WireError(whole.at, f"a blob of shape {tuple(dims)} with {count} numbers")
    if not found:
        raise WireError(whole.at, f"a blob of shape {tuple(dims)}, without numbers")
    return (found[0] if len(found) == 1 else np.concatenate(found)).reshape(dims)


def _dims(wire: WireFile, whole: Field) -> list[int]:
    """BlobShape: the sizes, packed or not."""
    dims: list[int] = []
    for part in wire.message(whole.start, whole.end):
        if part.number != 1:
            continue
        _expect(part, VARINT, BYTES)
        if part.kind == VARINT:
            dims.append(_size(part.varint, part.at))
        else:
            if part.end - part.start > 10 * _MAX_AXES:
                raise WireError(part.at, f"more than the {_MAX_AXES} axes that a blob may have")
            dims += [
                _size(value, part.at) for value in wire.message(part.start, part.end).varints()
            ]
    return dims


def _size(value: int, at: int) -> int:
    if value >= 1 << 31:  # negative numbers are large ones here
        raise WireError(at, f"an axis of size {value}")
    return value
