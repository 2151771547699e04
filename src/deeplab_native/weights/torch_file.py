"""Files of `torch.save`, read without torch's unpickler, for those that it refuses.

Both formats: a zip file with `data.pkl` and an entry for every storage (since PyTorch 1.6), and
five pickles with the storages behind them. Only the tensors that are asked for are read: the state
of an optimiser, twice the size of the net, stays where it is.
"""

from __future__ import annotations

import io
import mmap
import struct
import zipfile
import zlib
from collections.abc import Callable
from typing import Any, BinaryIO

import torch

from .pickles import PERSISTENT, DamagedError, Opaque, Program

_MAGIC = 0x1950A86A20F9469CFC6C
_VERSION = 1001
_MAX_AXES = 64
_MAX_MODULES = 100_000  # with their tensors, of a net saved whole; ResNet-101 has some 1,200
_MAX_NAME = 1000
# What zipfile raises; OSError for an entry that begins before the file does
_DAMAGED = (
    *(zipfile.BadZipFile, zlib.error, LookupError, NotImplementedError, RuntimeError),
    *(EOFError, OSError, UnicodeDecodeError, OverflowError, struct.error),
)
# Classes of storages, of whatever device
_DTYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
    "ComplexFloatStorage": torch.complex64,
    "ComplexDoubleStorage": torch.complex128,
}
_PARAMETERS = ("torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state")
_TENSORS = ("torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor")


class TorchFile:
    """What a file of `torch.save` holds, as long as `file` is open.

    Attributes:
        content: its object, with `Opaque`s for what is no number, string, list or dict; also for
            tensors, which `tensor` reads.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Raises `DamagedError` where the file is damaged or of another form."""
        program = Program()
        self._bytes_of: Callable[[str], bytes]
        try:
            zipped = zipfile.is_zipfile(file)
            found = _zipped(zipfile.ZipFile(file), program) if zipped else None
        except _DAMAGED as error:
            raise DamagedError(f"a damaged zip file: {error}") from None
        self.content, self._bytes_of = found or _before_zip(file, program)
        self._storages: dict[str, torch.Tensor] = {}

    def tensor(self, value: object) -> torch.Tensor | None:
        """The tensor that `value` stands for; None where it is something else.

        Raises `DamagedError` where the file has not all of it.
        """
        while isinstance(value, Opaque) and value.name in _PARAMETERS and value.args:
            value = value.args[0]
        if not isinstance(value, Opaque) or value.name not in _TENSORS or len(value.args) < 4:
            return None
        storage, offset, size, stride = value.args[:4]
        reference = _reference(storage)
        if reference is None:
            return None
        if isinstance(size, Opaque) and size.name == "torch.Size" and size.args:
            size = size.args[0]
        for numbers in (size, stride, (offset,)):
            if not isinstance(numbers, tuple | list) or len(numbers) > _MAX_AXES:
                raise DamagedError("a tensor without a shape")
            if not all(type(n) is int and 0 <= n < 1 << 63 for n in numbers):
                raise DamagedError("a tensor whose shape is no numbers")
        key, dtype = reference
        try:
            return self._storage(key, dtype).as_strided(tuple(size), tuple(stride), offset)
        except (RuntimeError, OverflowError, TypeError):  # beyond its storage
            raise DamagedError(f"a tensor of shape {tuple(size)} beyond its storage") from None

    def _storage(self, key: str, dtype: torch.dtype) -> torch.Tensor:
        """(n,) all values of a storage, read once."""
        if key not in self._storages:
            content = bytearray(self._bytes_of(key))
            if len(content) % dtype.itemsize:
                raise DamagedError(f"a storage of {len(content)} bytes for {dtype}")
            self._storages[key] = (
                torch.frombuffer(content, dtype=dtype) if content else torch.empty(0, dtype=dtype)
            )
        if self._storages[key].dtype != dtype:
            raise DamagedError("a storage of two types")
        return self._storages[key]


def is_tensor(value: Opaque) -> bool:
    """Whether it stands for a tensor, plain or not."""
    return value.name.startswith("torch._utils._rebuild_")


def module_state(value: Opaque) -> dict[str, Any] | None:
    """What `state_dict()` of a whole module would give; None where it is none.

    Raises `DamagedError` where it is too large for a net, as one that has itself as its part.
    """
    state: dict[str, Any] = {}
    todo: list[tuple[str, object]] = [("", value)]
    looked_at = 0
    while todo:
        front, module = todo.pop()
        if not isinstance(module, Opaque):
            continue
        own, parts = module.state.get("_parameters"), module.state.get("_modules")
        if not isinstance(own, dict) or not isinstance(parts, dict):
            if not front:
                return None
            continue
        tensors = {**own, **_buffers(module)}
        looked_at += 1 + len(tensors) + len(parts)
        if looked_at > _MAX_MODULES or len(front) > _MAX_NAME:
            raise DamagedError("a module that has itself as its part, or more parts than any net")
        state |= {f"{front}{k}": v for k, v in tensors.items() if v is not None}
        # in their order, one after the other with all that they have
        todo += reversed([(f"{front}{key}.", part) for key, part in parts.items()])
    return state


def _buffers(module: Opaque) -> dict[Any, Any]:
    """Those that its state dict has."""
    buffers = module.state.get("_buffers")
    left_out = module.state.get("_non_persistent_buffers_set")
    skip: set[Any] = set()
    if isinstance(left_out, Opaque):  # a set: of members, or a call with a list of them
        skip.update(left_out.items)
        if left_out.args and isinstance(left_out.args[0], list):
            skip.update(name for name in left_out.args[0] if isinstance(name, str))
    found = buffers.items() if isinstance(buffers, dict) else ()
    return {key: value for key, value in found if key not in skip}


def _reference(value: object) -> tuple[str, torch.dtype] | None:
    """Key and dtype of the storage that a persistent id names."""
    if not isinstance(value, Opaque) or value.name != PERSISTENT:
        return None
    return _key_and_dtype(value.args[0])


def _key_and_dtype(reference: Any) -> tuple[str, torch.dtype] | None:
    if not isinstance(reference, tuple) or len(reference) < 5 or reference[0] != "storage":
        return None
    _, kind, key, _, _, *view = reference
    if not isinstance(kind, Opaque) or not isinstance(key, str | int) or any(view):
        return None  # `view`: a part of another storage, as PyTorch before 0.4 wrote them
    dtype = _DTYPES.get(kind.name.rpartition(".")[2]) if kind.name.startswith("torch.") else None
    return None if dtype is None else (str(key), dtype)


def _zipped(archive: zipfile.ZipFile, program: Program) -> tuple[Any, Callable[[str], bytes]]:
    names = set(archive.namelist())
    front = next((n.removesuffix("data.pkl") for n in names if n.endswith("data.pkl")), None)
    if front is None:
        raise DamagedError("a zip file without data.pkl")
    if f"{front}byteorder" in names and archive.read(f"{front}byteorder") != b"little":
        raise DamagedError("numbers whose highest byte comes first")

    def bytes_of(key: str) -> bytes:
        name = f"{front}data/{key}"
        if name not in names:
            raise DamagedError(f"no storage {key:.20}")
        try:
            return archive.read(name)  # and compares its checksum
        except _DAMAGED as error:
            raise DamagedError(f"a damaged zip file: {error}") from None

    return program.read(io.BytesIO(archive.read(f"{front}data.pkl"))), bytes_of


def _before_zip(file: BinaryIO, program: Program) -> tuple[Any, Callable[[str], bytes]]:
    if file.seek(0, 2) == 0:
        raise DamagedError("empty")
    with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        content = Program().read(data)
        if content != _MAGIC:  # a pickle that torch.save did not write
            return content, _nothing
        if Program().read(data) != _VERSION:
            raise DamagedError("a version that there is none of")
        system = Program().read(data)
        if not isinstance(system, dict) or system.get("little_endian") is not True:
            raise DamagedError("numbers whose highest byte comes first")
        content = program.read(data)
        places = _places(Program().read(data), program, data)

    def bytes_of(key: str) -> bytes:
        if key not in places:
            raise DamagedError(f"no storage {key:.20}")
        start, size = places[key]
        file.seek(start)
        return file.read(size)

    return content, bytes_of


def _places(keys: Any, program: Program, data: mmap.mmap) -> dict[str, tuple[int, int]]:
    """Where the storages lie, behind the pickles: (first byte, bytes)."""
    found = [_key_and_dtype(reference) for reference in program.references]
    dtypes = dict(pair for pair in found if pair is not None)
    places: dict[str, tuple[int, int]] = {}
    at, end = data.tell(), len(data)
    for key in keys if isinstance(keys, list) else ():
        dtype = dtypes.get(str(key)) if isinstance(key, str | int) else None
        if dtype is None:
            raise DamagedError("a storage of unknown type")
        count = int.from_bytes(data[at : at + 8], "little", signed=True)
        size = count * dtype.itemsize
        if count < 0 or at + 8 + size > end:
            raise DamagedError("storages that end too early")
        places[str(key)] = (at + 8, size)
        at += 8 + size
    return places


def _nothing(key: str) -> bytes:
    raise DamagedError(f"no storage {key:.20}")
