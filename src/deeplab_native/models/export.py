"""Nets as ONNX files, for runtimes without PyTorch."""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from .._files import atomic_path, check_output
from .._integers import pair
from ..layers import using_algorithm
from ._evaluation import evaluating
from .preprocessing import Preprocessing

_MOST_BYTES = 2**31 - 2**20  # protobuf reads files below 2 GiB


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    *,
    size: int | Sequence[int] | None = None,
) -> None:
    """Writes a net as one ONNX file, in evaluation mode and with standard operators only.

    Every layer is exported by its algorithm "aten", so that the file needs nothing of this
    package. The input is called `image`: (B, 3, H, W), in the net's own format, float32 or the
    type of its parameters; the output is `scores`, (B, L, h, w), the score map before any
    interpolation. The net's name, classes, output stride and input format are in the file's
    metadata: `model`, `num_classes`, `output_stride`, and `preprocessing` as JSON with the
    attributes of `Preprocessing`.

    Args:
        model: a net of `create_model` or another with `preprocessing`; it is left as it was.
        path: must end in .onnx; written whole or not at all.
        size: height and width of the input, one integer or two, where the runtime wants them
            fixed, for one image; None leaves batch, height and width open.

    Raises:
        TypeError: `model` has no `preprocessing`, or an argument another type.
        ValueError: another suffix, a size below 1, a net on the meta device, or one of 2 GiB.
        ImportError: onnx and onnxscript are not installed.
        OSError: the file cannot be written.
    """
    preprocessing = getattr(model, "preprocessing", None)
    if not isinstance(model, nn.Module) or not isinstance(preprocessing, Preprocessing):
        raise TypeError(
            "model: expected a net that says its input format in .preprocessing, "
            f"got {type(model).__name__}"
        )
    path = Path(path)
    if path.suffix != ".onnx":
        raise ValueError(f"path: expected a name ending in .onnx, got {str(path)!r}")
    check_output(path)
    fixed = None if size is None else pair("size", size, least=1)
    check_packages()
    tensors = [*model.parameters(), *model.buffers()]
    if any(t.is_meta for t in tensors):
        raise ValueError("model: a net on the meta device has no weights to export")
    if sum(t.numel() * t.element_size() for t in tensors) > _MOST_BYTES:
        raise ValueError("model: its weights are larger than the 2 GiB that one ONNX file holds")

    parameter = next(model.parameters(), torch.empty(0))
    # of batch, height and width that are no special case: 1 would be taken for a fixed number
    shape = (2, 3, 65, 73) if fixed is None else (1, 3, *fixed)
    image = torch.zeros(shape, dtype=parameter.dtype, device=parameter.device)
    open_sizes = {i: torch.export.Dim.DYNAMIC for i in (0, 2, 3)} if fixed is None else None
    with using_algorithm(model, "aten"), evaluating(model), torch.no_grad(), _without_noise():
        program = torch.onnx.export(
            model,
            (image,),
            dynamo=True,
            dynamic_shapes=None if open_sizes is None else (open_sizes,),
            input_names=["image"],
            output_names=["scores"],
            verbose=False,
        )
    assert program is not None  # which dynamo=True promises
    for key in ("name", "num_classes", "output_stride"):
        if hasattr(model, key):
            program.model.metadata_props["model" if key == "name" else key] = str(
                getattr(model, key)
            )
    program.model.metadata_props["preprocessing"] = json.dumps(asdict(preprocessing))
    with atomic_path(path) as temporary:
        program.save(temporary, external_data=False)


def check_packages() -> None:
    """Raises ImportError where a package that writes ONNX is missing."""
    missing = [name for name in ("onnx", "onnxscript") if importlib.util.find_spec(name) is None]
    if missing:
        raise ImportError(
            f"ONNX export needs {' and '.join(missing)} (pip install {' '.join(missing)})"
        )


@contextmanager
def _without_noise() -> Iterator[None]:
    """Torch warns of its own future, and that torchvision's operators are not there."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            warnings.simplefilter("ignore", FutureWarning)
            yield
    finally:
        logger.setLevel(level)
