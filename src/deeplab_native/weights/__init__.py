"""Weights files: our own safetensors, and plain PyTorch state dicts with our key names.

A file of ours says which net it belongs to, its classes and its input format. Nothing here
executes what a file holds: pickled files are read by torch's restricted unpickler.
"""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .._files import atomic_path
from ..models.preprocessing import Preprocessing

if TYPE_CHECKING:
    from ..models.base import DeepLab

__all__ = ["Metadata", "load", "read_metadata", "save"]

_FORMAT = "deeplab_native/1"
_STATE_DICTS = (".pth", ".pt")


@dataclass(frozen=True)
class Metadata:
    """What a weights file of ours says about itself: the arguments of `create_model`, the input
    format."""

    model: str
    num_classes: int
    options: dict[str, bool]
    preprocessing: Preprocessing


def save(model: DeepLab, path: str | os.PathLike[str]) -> None:
    """Writes all parameters and buffers of a net, and what `Metadata` holds, as safetensors.

    The file appears whole or not at all, and replaces one that is there.

    Args:
        model: a net of `create_model`, not on the meta device.
        path: must end in .safetensors.

    Raises:
        ValueError: another suffix, or a net without memory.
        OSError: the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path: expected a name ending in .safetensors, got {str(path)!r}")
    tensors = {key: t.detach().contiguous() for key, t in model.state_dict().items()}
    if any(t.is_meta for t in tensors.values()):
        raise ValueError("model: a net on the meta device has no weights to save")
    metadata = {
        "format": _FORMAT,
        "model": model.name,
        "num_classes": str(model.num_classes),
        "options": json.dumps(model.options),
        "preprocessing": json.dumps(asdict(model.preprocessing)),
    }
    with atomic_path(path) as temporary:
        try:
            save_file(tensors, temporary, metadata)
        except SafetensorError as error:
            raise OSError(f"cannot write {path}: {error}") from error


def check_file(path: str | os.PathLike[str]) -> Path:
    """`path`, where it is a file that `load` may read, without a look inside.

    Raises:
        ValueError: another suffix.
        IsADirectoryError, FileNotFoundError: a folder, or nothing at all.
    """
    path = Path(path)
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder (give one weights file)")
    if path.suffix not in (".safetensors", *_STATE_DICTS):
        raise ValueError(
            f"path: expected a name ending in .safetensors, .pth or .pt, got {str(path)!r}"
        )
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such weights file (check the path)")
    return path


def read_metadata(path: str | os.PathLike[str]) -> Metadata:
    """What a file written by `save` says about itself; the tensors are not read.

    Raises:
        ValueError: the file is no safetensors, truncated, or not written by `save`.
        OSError: it cannot be opened.
    """
    return _read_safetensors(Path(path), tensors=False)[0]


def load(model: DeepLab, path: str | os.PathLike[str]) -> None:
    """Reads weights into a net: all of them, or none and an error.

    Values are converted to the dtype and device of the net. A file of ours also brings its input
    format, which replaces `model.preprocessing`; a state dict has none, the net keeps its own.

    Args:
        model: a net of `create_model`.
        path: .safetensors written by `save`, or .pth / .pt with a state dict that has our keys.

    Raises:
        ValueError: another suffix; a file that is truncated or something else; a file of another
            net, other classes or other options; keys or shapes that don't match, all of them
            listed; a net on the meta device.
        OSError: the file cannot be opened.
    """
    path = check_file(path)
    own = model.state_dict()
    if any(t.is_meta for t in own.values()):
        raise ValueError("model: a net on the meta device has no memory to read weights into")
    metadata = None
    if path.suffix in _STATE_DICTS:
        tensors = _read_state_dict(path)
    else:
        metadata, tensors = _read_safetensors(path)
    problems = _mismatches(model, own, metadata, tensors)
    if problems:
        raise ValueError(f"{path} does not fit {model.name}:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for key, tensor in own.items():
            tensor.copy_(tensors[key])
    if metadata is not None:
        model.preprocessing = metadata.preprocessing


def _mismatches(
    model: DeepLab,
    own: dict[str, torch.Tensor],
    metadata: Metadata | None,
    tensors: dict[str, torch.Tensor],
) -> list[str]:
    """Everything that keeps `tensors` from being read into the net, a line each."""
    problems = []
    if metadata is not None:
        # nets with the same keys and shapes may differ in their rates (ASPP-S, ASPP-L) or strides
        for what, theirs, ours in (
            ("net", metadata.model, model.name),
            ("num_classes", metadata.num_classes, model.num_classes),
            ("options", metadata.options, model.options),
        ):
            if theirs != ours:
                problems.append(f"{what}: {theirs} in the file, {ours} in the net")
    for key, tensor in own.items():
        if key not in tensors:
            problems.append(f"{key}: missing in the file, {tuple(tensor.shape)} in the net")
    for key, tensor in tensors.items():
        if key not in own:
            problems.append(f"{key}: {tuple(tensor.shape)} in the file, unknown to the net")
        elif tensor.shape != own[key].shape:
            problems.append(
                f"{key}: {tuple(tensor.shape)} in the file, {tuple(own[key].shape)} in the net"
            )
        elif not tensor.is_floating_point():
            problems.append(f"{key}: {tensor.dtype} in the file, expected floating point")
    return problems


def _read_safetensors(
    path: Path, *, tensors: bool = True
) -> tuple[Metadata, dict[str, torch.Tensor]]:
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            values = {key: file.get_tensor(key) for key in file.keys()} if tensors else {}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"{path} is no safetensors file, or truncated: {error}") from error
    if header.get("format") != _FORMAT:
        raise ValueError(
            f"{path} was not written by deeplab_native.weights.save: expected the metadata "
            f"format = {_FORMAT}, got {header.get('format')}"
        )
    try:
        metadata = Metadata(
            model=header["model"],
            num_classes=int(header["num_classes"]),
            options=json.loads(header["options"]),
            preprocessing=Preprocessing(**json.loads(header["preprocessing"])),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} has damaged metadata: {error!r}") from error
    return metadata, values


def _read_state_dict(path: Path) -> dict[str, torch.Tensor]:
    with open(path, "rb") as file:
        try:
            content = torch.load(file, map_location="cpu", weights_only=True)
        except Exception as error:
            # The kind depends on where the file breaks. Torch's own message is left out: it
            # advises to switch the restricted unpickler off, which would run the file's code.
            raise ValueError(
                f"{path} is no state dict of plain tensors, or truncated ({type(error).__name__})"
            ) from None
    if not isinstance(content, dict):
        raise ValueError(f"{path}: expected a state dict, got {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise ValueError(
                f"{path}: expected a state dict of tensors, got {type(value).__name__} at {key!r}"
            )
    return content
