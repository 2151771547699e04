"""Our own files: safetensors with `Metadata`."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from .._file_kinds import what_else
from .._files import atomic_path
from ..models.base import DeepLab
from .metadata import FORMAT, Metadata


def save(model: DeepLab, path: str | os.PathLike[str], *, dtype: torch.dtype | None = None) -> None:
    """Writes all parameters and buffers of a net, and what `Metadata` holds, as safetensors.

    The same net gives the same bytes every time. The file appears whole or not at all, and replaces
    one that is there.

    Args:
        model: a net of `create_model`, not on the meta device.
        path: must end in .safetensors.
        dtype: of the floating-point tensors in the file; torch.float16 and bfloat16 halve it, and
            `load` converts them back. None keeps that of the net.

    Raises:
        ValueError, TypeError: another suffix; a net without memory; `class_names`, `palette` or
            `crf` of the net have another form or length; `dtype` is not of floating point, or too
            small for a value.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name ending in .safetensors, got {str(path)!r}")
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"dtype: expected one of floating point or None, got {dtype!r}")
    tensors = {key: t.detach().contiguous() for key, t in model.state_dict().items()}
    if any(t.is_meta for t in tensors.values()):
        raise ValueError("model: a net on the meta device has no weights to save")
    for key, tensor in tensors.items() if dtype is not None else ():
        if tensor.is_floating_point():
            tensors[key] = tensor.to(dtype)
            if bool((tensors[key].isfinite() != tensor.isfinite()).any()):
                raise ValueError(f"dtype: {key} has values that {dtype} cannot hold")
    header = Metadata.of(model).header()
    with atomic_path(path) as temporary:
        write_safetensors(tensors, temporary, header)


# Names in the file, in the order that safetensors gives tensors, so that they are aligned
_DTYPES = {
    torch.int64: "I64",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int32: "I32",
    torch.bfloat16: "BF16",
    torch.float16: "F16",
    torch.int16: "I16",
    torch.int8: "I8",
    torch.uint8: "U8",
    torch.bool: "BOOL",
}


def write_safetensors(
    tensors: Mapping[str, torch.Tensor], path: Path, header: Mapping[str, str]
) -> None:
    """Contiguous tensors, in a file whose bytes depend on the arguments alone.

    So checksums mean something, where `save_file` keeps the header in a map of Rust, whose order is
    another in every process. It also writes to a file of a hidden name of its own, which stays
    where the process is killed; here `path` is written.

    Raises TypeError for a dtype that has no name, OSError where the file cannot be written.
    """
    for name, tensor in tensors.items():
        if tensor.dtype not in _DTYPES:
            expected = ", ".join(str(dtype) for dtype in _DTYPES)
            raise TypeError(f"{name}: expected one of {expected}, got {tensor.dtype}")
    order = list(_DTYPES)
    names = sorted(tensors, key=lambda name: (order.index(tensors[name].dtype), name))
    content: dict[str, Any] = {"__metadata__": dict(sorted(header.items()))}
    end = 0
    for name in names:
        tensor = tensors[name]
        begin, end = end, end + tensor.numel() * tensor.element_size()
        content[name] = {
            "dtype": _DTYPES[tensor.dtype],
            "shape": list(tensor.shape),
            "data_offsets": [begin, end],
        }
    text = json.dumps(content, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)  # the tensors are aligned
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(tensors[name].cpu().flatten().view(torch.uint8).numpy().data)


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What a file written by `save` says about itself; the tensors are not read.

    Raises:
        ValueError: the file is no safetensors, truncated, or not written by `save`.
        OSError: it cannot be opened.
    """
    path = Path(path)
    metadata, header, _ = read_safetensors(path, tensors=False)
    if metadata is None:
        raise ValueError(
            f"{path} was not written by deeplab_native.weights.save: expected the metadata "
            f"format = {FORMAT}, got {header.get('format')}"
        )
    return metadata


def read_safetensors(
    path: Path, *, tensors: bool = True
) -> tuple[Metadata | None, dict[str, str], dict[str, torch.Tensor]]:
    """Metadata if the file is one of ours, the header as it is, and the tensors.

    Raises:
        ValueError: the file is something else, truncated, or of a later version of ours.
        OSError: it cannot be opened.
    """
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            values = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
    except SafetensorError as error:
        if other := what_else(path):
            raise ValueError(f"{path} is {other}") from None
        raise ValueError(f"{path} is no safetensors file, or truncated: {error}") from error
    written_by = header.get("format", "")
    if not written_by.startswith("deeplab_native/"):
        return None, header, values
    if written_by != FORMAT:
        raise ValueError(
            f"{path} has the format {written_by}, expected {FORMAT}; a later version of "
            "deeplab_native reads it"
        )
    try:
        return Metadata.from_header(header), header, values
    except ValueError as error:
        raise ValueError(f"{path} has {error}") from error
