"""Arrays of score files: NumPy's and PyTorch's, whatever their suffix; nothing is unpickled."""

from __future__ import annotations

import lzma
import tokenize
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from .._images import picture_suffixes
from .._memory import ClippedFile, check_memory, check_unpacked
from .._picture_formats import check_regular, open_picture
from ..weights.state_dict import read_tensors
from ._array_sizes import MOST_HEADER, array_bytes, member_bytes

SUFFIXES = (".npy", ".npz", ".pt", ".pth")
# Of what people have instead: how it begins, what it is
_OTHERS = (
    (b"\x89HDF\r\n\x1a\n", "an HDF5 file, or one of MATLAB 7.3"),
    (b"MATLAB 5", "a MATLAB file"),
    (b"<", "an HTML or XML page, as of a failed download"),
    (b"{", "JSON text"),
)
# What NumPy and zipfile raise for bad data: of headers, of checksums and of what they cannot unpack
_DAMAGED = (
    ValueError, EOFError, zipfile.BadZipFile, zlib.error, tokenize.TokenError, SyntaxError,
    RecursionError, NotImplementedError, RuntimeError, OverflowError, TypeError, LookupError,
    OSError, lzma.LZMAError,
)  # fmt: skip


def read_array(path: Path, key: str | None = None) -> np.ndarray | None:
    """The array of a .npy file, or the one named `key` (or the only one) of a .npz or `torch.save`.

    Returns:
        float32, or integers or booleans as they are; None of a picture.

    Files with pickled Python objects are refused: reading them can run any code. Raises
    FileNotFoundError; ValueError for other files, keys and dtypes.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such scores file (check the path)")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one scores file)")
    check_regular(path)
    with ClippedFile(path) as file:  # opened here: np.load leaves damaged archives open
        array = _load(path, file, key)
    if array is None:
        if key is not None:
            raise ValueError(f"{path}: `key` is for .npz files, this is a picture (leave it out)")
        return None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiub":
        raise ValueError(
            f"{path}: expected floating point scores or integer labels, got "
            f"{getattr(array, 'dtype', 'raw bytes')} (save a plain array of numbers)"
        )
    if array.dtype.kind != "f":
        return array
    with np.errstate(over="ignore"):  # float64 beyond float32's range is infinite from here on
        return array.astype(np.float32)


def _load(path: Path, file: BinaryIO, key: str | None) -> Any:
    start = file.read(12)
    file.seek(0)
    if start[:6] == b"\x93NUMPY":
        if key is not None:
            raise ValueError(f"{path}: `key` is for .npz files, this is one array (leave it out)")
        if start[6:7] != b"\1" and int.from_bytes(start[8:], "little") > MOST_HEADER:
            raise ValueError(f"{path}: damaged or cut off (save it again)")
        _check_size(path, file)
        return _whole(path, lambda: np.load(file, allow_pickle=False))
    if start[:1] == b"\x80":
        return _from_torch(path, file, key)
    if start[:2] == b"PK":
        entries = _whole(path, lambda: zipfile.ZipFile(file).namelist())
        if any(name.endswith("data.pkl") for name in entries):
            return _from_torch(path, file, key)
        file.seek(0)
        with _whole(path, lambda: np.load(file, allow_pickle=False)) as arrays:
            name = _chosen(path, arrays.files, key)
            _check_member(path, arrays.zip, name)
            return _whole(path, lambda: arrays[name])
    kinds = [kind for begin, kind in _OTHERS if start.startswith(begin)]
    if not kinds and _is_picture(file):
        return None
    what = f", but {kinds[0]}" if kinds else ""
    raise ValueError(
        f"{path}: not a NumPy file, a tensor of torch.save or a picture{what} (save the scores "
        "as .npy or .npz)"
    )


def _check_size(path: Path, file: BinaryIO) -> None:
    """Of a .npy file, which is as long as its header says, or cut off."""
    try:
        size = _whole(path, lambda: array_bytes(path, file))
    except ValueError:  # NumPy will say more
        size = 0
    start, end = file.tell(), file.seek(0, 2)
    file.seek(0)
    if start + size > end:
        raise ValueError(f"{path}: damaged or cut off (save it again)")
    check_memory(str(path), 2 * size)


def _check_member(path: Path, archive: zipfile.ZipFile, name: str) -> None:
    """Of a .npz file, whose members unpack to any size: by what archive and header say."""
    there = archive.namelist()
    member = archive.getinfo(name if name in there else f"{name}.npy")
    check_unpacked(path, member.file_size)
    try:
        size = _whole(path, lambda: member_bytes(path, archive, member))
    except ValueError:  # NumPy will say more
        return
    if size > member.file_size:
        raise ValueError(f"{path}: damaged or cut off (save it again)")


def _is_picture(file: BinaryIO) -> bool:
    from PIL import Image

    try:
        with open_picture(file):
            return True
    except Image.DecompressionBombError:  # which reading it will say
        return True
    except Exception:  # of files that begin as one of Pillow's formats do
        return False


def _chosen(path: Path, names: list[str], key: str | None) -> str:
    if key is not None and key not in names:
        raise ValueError(f"{path}: no array {key!r} (`key` is one of: {', '.join(names)})")
    if key is None and len(names) != 1:
        raise ValueError(f"{path}: {len(names)} arrays (choose by `key`: {', '.join(names)})")
    return names[0] if key is None else key


def _whole(path: Path, read: Callable[[], Any]) -> Any:
    """read(), with NumPy's and zipfile's own errors for bad data in our words."""
    try:
        return read()
    except _DAMAGED as error:
        if "allow_pickle" in str(error):
            raise ValueError(
                f"{path}: holds pickled Python objects, which could run any code, and is not "
                "loaded (save a plain float array)"
            ) from None
        raise ValueError(f"{path}: damaged or cut off (save it again)") from None


def _from_torch(path: Path, file: BinaryIO, key: str | None) -> np.ndarray:
    try:
        content = read_tensors(file)
    except Exception as error:  # its kind depends on where the file breaks
        raise ValueError(
            f"{path}: damaged, or not a plain tensor or dict of them, and is not loaded, since "
            f"other objects could run any code: {type(error).__name__} (give the tensor of scores "
            "alone, by torch.save or np.save)"
        ) from None
    if isinstance(content, torch.Tensor):
        if key is not None:
            raise ValueError(f"{path}: `key` is for several arrays, this is one (leave it out)")
        tensor = content
    else:
        tensors = content if isinstance(content, Mapping) else {}
        names = [k for k, v in tensors.items() if isinstance(k, str) and torch.is_tensor(v)]
        if not names:
            raise ValueError(
                f"{path}: expected a tensor or a dict of tensors, got {type(content).__name__} "
                "(give the tensor of scores alone)"
            )
        tensor = tensors[_chosen(path, names, key)]
    if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
        raise ValueError(f"{path}: a tensor without plain values (save tensor.to_dense().cpu())")
    if tensor.numel() * tensor.itemsize > tensor.untyped_storage().nbytes():
        raise ValueError(f"{path}: one value for many (save tensor.contiguous())")
    tensor = tensor.detach()
    array: np.ndarray = (tensor.float() if tensor.is_floating_point() else tensor).numpy()
    return array


def suffixes_of(folder: Path, *, masks: bool) -> set[str]:
    """Which files of a folder have the scores: arrays where there are some, else pictures."""
    there = {path.suffix.lower() for path in folder.iterdir()} if folder.is_dir() else set()
    return picture_suffixes() if masks and not there & {*SUFFIXES} else {*SUFFIXES}
