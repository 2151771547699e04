"""Tensors by name from PyTorch files and from safetensors that others wrote.

Nothing that a file holds is executed: pickled files are read by torch's restricted unpickler.
"""

from __future__ import annotations

import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

# Names under which training scripts put the state dict beside the optimiser's and others
_WRAPPERS = ("state_dict", "model_state_dict", "model_state", "model", "net", "network")
_MAX_WRAPPERS = 4
# What wrappers of modules put in front of every key
_PREFIXES = ("module.", "_orig_mod.", "model.")
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file that `torch.save` wrote, also before PyTorch 1.6, also wrapped.

    Raises:
        ValueError: it is damaged, or holds something else.
        OSError: it cannot be opened.
    """
    with open(path, "rb") as file:
        try:
            _check_zip(file)
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # The kind depends on where the file breaks. Torch's own message is left out: it
            # advises to switch the restricted unpickler off, which would run the file's code.
            if _is_tar(path):
                raise ValueError(
                    f"{path} is in the tar format of the first PyTorch versions, which cannot be "
                    "read without running what it holds; where you trust it, load it with "
                    "PyTorch and save its state dict again"
                ) from None
            raise ValueError(
                f"{path} is no state dict of plain tensors, or truncated ({type(error).__name__})"
            ) from None
    return _unwrapped(path, content)


def _check_zip(file: BinaryIO) -> None:
    """ValueError where a zip file would unpack to more than it is long.

    torch.save does not compress; a file that does can ask for any amount of memory.
    """
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as entries:
            unpacked = sum(entry.file_size for entry in entries.infolist())
        if unpacked > file.seek(0, 2):
            raise ValueError("compressed")
    file.seek(0)


def _is_tar(path: Path) -> bool:
    try:
        return tarfile.is_tarfile(path)
    except OSError:
        return False


def _unwrapped(path: Path, content: Any) -> dict[str, torch.Tensor]:
    where = ""
    for _ in range(_MAX_WRAPPERS):
        if not isinstance(content, dict):
            raise ValueError(f"{path}: expected a state dict, got {type(content).__name__}{where}")
        wrapped = [name for name in _WRAPPERS if isinstance(content.get(name), dict)]
        if not wrapped:
            break
        if len(wrapped) > 1:
            raise ValueError(
                f"{path}: which one is the net's state dict, {' or '.join(map(repr, wrapped))}? "
                "(save one of them alone)"
            )
        content = content[wrapped[0]]
        where += f" at {wrapped[0]!r}"
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path}: expected a state dict of tensors, got {type(value).__name__} at "
                f"{_short(key)}{where}"
            )
    state_dict: dict[str, torch.Tensor] = content
    return state_dict


def _short(key: object) -> str:
    text = repr(key)
    return text if len(text) <= 80 else text[:77] + "..."


def without_prefixes(tensors: Mapping[str, torch.Tensor]) -> dict[str, str]:
    """The keys as the net itself has them -> the keys of the file.

    Without what wrappers (data parallel training, `torch.compile`) put in front of every one.
    """
    keys = list(tensors)
    cut = 0
    while keys:
        prefix = next((p for p in _PREFIXES if all(k.startswith(p, cut) for k in keys)), None)
        if prefix is None:
            break
        cut += len(prefix)
    return {key[cut:]: key for key in keys}


def plain(tensor: torch.Tensor) -> str | None:
    """What keeps the values of a tensor from being copied anywhere; None if nothing does."""
    if tensor.layout != torch.strided or tensor.is_quantized:
        return f"{tensor.layout if not tensor.is_quantized else tensor.dtype} in the file"
    if tensor.device.type != "cpu":  # such as meta, which has no values
        return f"on the {tensor.device.type} device in the file"
    if tensor.is_floating_point() and tensor.dtype not in _FLOATS:
        return f"{tensor.dtype} in the file"
    return None
