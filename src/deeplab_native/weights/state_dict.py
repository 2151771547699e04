"""Tensors by name from PyTorch files and from safetensors that others wrote.

Nothing that a file holds is executed: pickled files are read by torch's restricted unpickler, and
by a reader of our own where that one meets classes that it does not know.
"""

from __future__ import annotations

import pickle
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch

from .._memory import ClippedFile
from .pickles import DamagedError, Opaque
from .torch_file import TorchFile, is_tensor, module_state

# Names under which training scripts put the state dict beside the optimiser's and others
_WRAPPERS = (
    "state_dict", "model_state_dict", "model_state", "model_weights", "model", "module", "net",
    "network", "weights", "params",
)  # fmt: skip
_MAX_WRAPPERS = 4
# What wrappers of modules put in front of every key
_PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "network.", "_fsdp_wrapped_module.")
# Before 2.10 torch's restricted unpickler can be made to write where it must not, and believes the
# sizes that a file claims (GHSA-63cw-57p8-fm3p): there our own reader reads all files
_TORCH_READS = tuple(map(int, re.findall(r"\d+", torch.__version__)[:2])) >= (2, 10)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_REMEDY = "save the net's state_dict(), alone or under 'state_dict'"


def read_pickled(path: Path) -> dict[str, torch.Tensor]:
    """The state dict of a file that `torch.save` wrote, also before PyTorch 1.6, also wrapped.

    What lies beside it may be of any class. Of a whole module (`torch.save(net)`) it is what
    `state_dict()` would give.

    Raises:
        ValueError: it is damaged, or holds something else; says the class and where it lies.
        OSError: it cannot be opened.
    """
    with ClippedFile(path) as file:
        ours = None
        try:
            _check_zip(file)
            try:
                content = _by_torch(file)
            except pickle.UnpicklingError:
                ours = TorchFile(file)
                content = ours.content
        except Exception as error:
            raise _unreadable(path, error) from None
        try:
            return _unwrapped(path, content, ours)
        except DamagedError as error:
            raise ValueError(f"{path} is damaged or truncated: {error}") from None


def read_tensors(file: BinaryIO) -> Any:
    """What `torch.save` wrote: a tensor, or a dict of such and of other things.

    Raises an error of any kind where it is damaged or something else.
    """
    _check_zip(file)
    if _TORCH_READS:
        return _by_torch(file)
    ours = TorchFile(file)
    if isinstance(ours.content, dict):
        found = {key: ours.tensor(value) for key, value in ours.content.items()}
        return {key: ours.content[key] if t is None else t for key, t in found.items()}
    return ours.tensor(ours.content)


def _by_torch(file: BinaryIO) -> Any:
    """Raises pickle.UnpicklingError for what it refuses, and others where the file is damaged."""
    if not _TORCH_READS:
        raise pickle.UnpicklingError
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of protocols that it may not know
        return torch.load(file, map_location="cpu", weights_only=True)


def _unreadable(path: Path, error: Exception) -> ValueError:
    """The kind of `error` depends on where the file breaks.

    Torch's own message is left out: it advises to switch the restricted unpickler off, which would
    run the file's code.
    """
    if _is_tar(path):
        return ValueError(
            f"{path} is in the tar format of the first PyTorch versions, which cannot be read "
            "without running what it holds; where you trust it, load it with PyTorch and save its "
            "state dict again"
        )
    reason = error if isinstance(error, DamagedError) else type(error).__name__
    return ValueError(f"{path} is no state dict of plain tensors, or truncated ({reason})")


def _check_zip(file: BinaryIO) -> None:
    """DamagedError where a zip file is a TorchScript, or would unpack to more than it is long.

    torch.save does not compress; a file that does can ask for any amount of memory.
    """
    if file.read(2) == b"PK":
        with zipfile.ZipFile(file) as entries:
            unpacked = sum(entry.file_size for entry in entries.infolist())
            if any(name.endswith("/constants.pkl") for name in entries.namelist()):
                raise DamagedError(
                    "a program of torch.jit.save: load it with torch.jit.load, and save its "
                    "state_dict()"
                )
        if unpacked > file.seek(0, 2):
            raise DamagedError("compressed, which torch.save does not do")
    file.seek(0)


def _is_tar(path: Path) -> bool:
    try:
        with open(path, "rb") as file:  # tarfile would unpack what is packed, of whatever size
            return file.read(262)[257:] == b"ustar"
    except OSError:
        return False


def _unwrapped(path: Path, content: Any, ours: TorchFile | None) -> dict[str, torch.Tensor]:
    where = ""
    for _ in range(_MAX_WRAPPERS):
        found = _as_dict(content)
        if found is None:
            raise ValueError(
                f"{path}: expected a state dict, got {_class_of(content)}{where} ({_REMEDY})"
            )
        wrapped = [name for name in _WRAPPERS if _as_dict(found.get(name)) is not None]
        if not wrapped:
            break
        if len(wrapped) > 1:  # `params` may be those of the training
            wrapped = [name for name in wrapped if _has_tensors(found[name])] or wrapped
        if len(wrapped) > 1:
            raise ValueError(
                f"{path}: which one is the net's state dict, {' or '.join(map(repr, wrapped))}? "
                "(save one of them alone)"
            )
        content = found[wrapped[0]]
        where += f" at {wrapped[0]!r}"
    state_dict = {}
    for key, value in (_as_dict(content) or {}).items():
        tensor = value if ours is None else ours.tensor(value)
        if not isinstance(key, str) or not isinstance(tensor, torch.Tensor):
            got = _class_of(value)
            if isinstance(key, str) and got == "Tensor":
                got = "a tensor that torch.save did not write, or of a kind without plain values,"
            raise ValueError(
                f"{path} is no state dict of plain tensors: got {got} at {_short(key)}{where} "
                f"({_REMEDY})"
            )
        state_dict[key] = tensor
    return state_dict


def _as_dict(value: object) -> dict[Any, Any] | None:
    """A dict, also of a class of its own; a whole module as its `state_dict()`; else None."""
    if isinstance(value, Opaque):
        return module_state(value) or value.items or None
    return value if isinstance(value, dict) else None


def _has_tensors(value: object) -> bool:
    return any(_is_tensor(part) for part in (_as_dict(value) or {}).values())


def _class_of(value: object) -> str:
    if _is_tensor(value):
        return "Tensor"
    return value.name if isinstance(value, Opaque) else type(value).__name__


def _is_tensor(value: object) -> bool:
    return isinstance(value, torch.Tensor) or (isinstance(value, Opaque) and is_tensor(value))


def _short(key: object) -> str:
    if not isinstance(key, str | int):  # nested tuples of a file can be long beyond measure
        return f"a key of type {_class_of(key)}"
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
