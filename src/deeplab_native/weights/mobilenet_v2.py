"""ImageNet weights of MobileNetV2 for the trunk of our net, from a NumPy archive.

The archive (.npz) has `00_conv.weight`, `00_conv.bias`, `01_dw.weight`, ...: the 51 convolutions of
the trunk in the order of the forward pass, `dw` for the depthwise ones, with batch normalisation
folded into them; 51 (1 x 1 to 1280 channels) and 52 (the classifier) may follow and have no place
in this net. Nothing in the file is executed, and no array is read whose header is not as expected.
"""

from __future__ import annotations

import os
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch

from .._memory import ClippedFile
from ..models.mobilenet import DeepLabMobileNetV2
from ..models.preprocessing import TENSORFLOW

__all__ = ["load_imagenet_trunk"]

_BEYOND_THE_TRUNK = {"51_conv.weight", "51_conv.bias", "52_conv.weight", "52_conv.bias"}
_DAMAGED = (
    zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, ValueError,
    # NumPy's, of headers that are no Python, or none of its own
    tokenize.TokenError, SyntaxError, TypeError, OverflowError, RecursionError,
)  # fmt: skip


def load_imagenet_trunk(model: DeepLabMobileNetV2, path: str | os.PathLike[str]) -> None:
    """Reads ImageNet weights into the trunk of a MobileNetV2 net: all of them, or none.

    The head keeps its values: it is what training on segmentation begins with (section 4.1).
    `model.preprocessing` becomes `TENSORFLOW`, the format that these weights were trained with;
    with TensorFlow's padding, too, of which `models.mobilenet` says what is made.

    Args:
        model: a net of `create_model("deeplab_mobilenetv2_...")`.
        path: .npz with the arrays above, float16, float32 or float64, weights (out, in / groups,
            kh, kw), biases (out,). Values are converted to the dtype and device of the net.

    Raises:
        TypeError: `model` is another net.
        ValueError: another suffix; a file that is damaged or something else; arrays that are
            missing, unknown, of another shape or dtype or not finite, all of them listed; a net
            on the meta device.
        OSError: the file cannot be opened.
    """
    if not isinstance(model, DeepLabMobileNetV2):
        raise TypeError(f"model: expected a net on MobileNetV2, got {type(model).__name__}")
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"path: expected a name ending in .npz, got {str(path)!r}")
    targets: dict[str, torch.Tensor] = {}
    for i, layer in enumerate(model.trunk()):
        name = f"{i:02d}_{'dw' if layer.groups > 1 else 'conv'}"
        assert layer.bias is not None  # batch normalisation is in it
        targets |= {f"{name}.weight": layer.weight, f"{name}.bias": layer.bias}
    if any(t.is_meta for t in targets.values()):
        raise ValueError("model: a net on the meta device has no memory to read weights into")
    arrays, problems = _read(path, {key: tuple(t.shape) for key, t in targets.items()})
    if problems:
        raise ValueError(f"{path} does not fit {model.name}:\n  " + "\n  ".join(problems))
    with torch.no_grad():
        for key, tensor in targets.items():
            tensor.copy_(torch.from_numpy(arrays[key]))
    model.preprocessing = TENSORFLOW


def _read(
    path: Path, expected: dict[str, tuple[int, ...]]
) -> tuple[dict[str, np.ndarray], list[str]]:
    """The expected arrays, and a line for everything that is not as expected."""
    arrays, problems = {}, []
    with ClippedFile(path) as file:
        try:
            archive = zipfile.ZipFile(file)
        except _DAMAGED as error:
            raise ValueError(f"{path} is no .npz archive, or truncated: {error}") from error
        with archive:
            names = [name.removesuffix(".npy") for name in archive.namelist()]
            for key in sorted(set(names) - expected.keys() - _BEYOND_THE_TRUNK):
                problems.append(f"{key}: in the file, unknown to the net")
            for key, shape in expected.items():
                if names.count(key) != 1:
                    times = "missing in the file" if key not in names else "twice in the file"
                    problems.append(f"{key}: {times}, {shape} in the net")
                    continue
                try:
                    member = archive.getinfo(f"{key}.npy")
                    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                        raise zipfile.BadZipFile("NumPy compresses by deflate, or not at all")
                    with archive.open(member) as content:
                        problem, array = _read_array(content, shape)
                except (*_DAMAGED, KeyError, OSError) as error:  # OSError: a position before 0
                    problem = f"damaged: {error}"
                if problem:
                    problems.append(f"{key}: {problem}")
                else:
                    arrays[key] = array
    return arrays, problems


def _read_array(member: IO[bytes], shape: tuple[int, ...]) -> tuple[str, np.ndarray]:
    """What is wrong with an array, or "", and the array; the header first, which says its size."""
    nothing = np.empty(0)
    version = np.lib.format.read_magic(member)
    if version != (1, 0):
        return f"expected version 1.0 of the .npy format, got {version}", nothing
    theirs, in_fortran_order, dtype = np.lib.format.read_array_header_1_0(member)
    if theirs != shape:
        return f"{theirs} in the file, {shape} in the net", nothing
    if dtype not in (np.float16, np.float32, np.float64) or in_fortran_order:
        order = "Fortran" if in_fortran_order else "C"
        return f"expected float16, float32 or float64 in C order, got {dtype} in {order}", nothing
    count = int(np.prod(shape)) * dtype.itemsize
    data = member.read(count + 1)
    if len(data) != count:
        return f"damaged: expected {count} bytes, got {len(data)} or more", nothing
    array = np.frombuffer(data, dtype).reshape(shape).astype(np.float64)
    if not np.isfinite(array).all():
        return "not all values are finite", nothing
    return "", array
