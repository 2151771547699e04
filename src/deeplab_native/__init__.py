"""DeepLab v2 as native kernels for PyTorch: atrous convolution, ASPP, fully connected CRF.

Importing this package imports nothing heavy: every name below is loaded at its first use.
This is also the one place that knows all layers: what a lower one needs of a higher one is named
here (`_late`).
"""

from __future__ import annotations

import importlib

from ._C import __version__
from ._late import provide as _provide

TYPE_CHECKING = False  # type checkers know the name; to import typing takes longer than all this
if TYPE_CHECKING:
    from typing import Any

    from .crf import CRFParams, MeanField
    from .layers import ASPP, AtrousConv2d, set_algorithm
    from .models.output_stride import set_output_stride
    from .ops.aspp import aspp
    from .ops.atrous_conv import atrous_conv1d, atrous_conv2d
    from .ops.atrous_im2col import atrous_col2im, atrous_im2col
    from .ops.dense_crf import dense_crf
    from .ops.mean_field import mean_field
    from .ops.permutohedral import permutohedral_filter
    from .ops.space_to_batch import batch_to_space, space_to_batch
    from .ops.upsample_unary import upsample_unary

_HOMES = {
    "atrous_conv1d": "ops.atrous_conv",
    "atrous_conv2d": "ops.atrous_conv",
    "atrous_im2col": "ops.atrous_im2col",
    "atrous_col2im": "ops.atrous_im2col",
    "space_to_batch": "ops.space_to_batch",
    "batch_to_space": "ops.space_to_batch",
    "aspp": "ops.aspp",
    "upsample_unary": "ops.upsample_unary",
    "permutohedral_filter": "ops.permutohedral",
    "mean_field": "ops.mean_field",
    "dense_crf": "ops.dense_crf",
    "CRFParams": "crf",
    "MeanField": "crf",
    "AtrousConv2d": "layers",
    "ASPP": "layers",
    "set_algorithm": "layers",
    "set_output_stride": "models.output_stride",
}
_MODULES = (
    "crf",
    "data",
    "hub",
    "jobs",
    "layers",
    "metrics",
    "models",
    "ops",
    "pydensecrf",
    "viz",
    "weights",
)

_provide(
    {
        "check_weights_file": "weights.check_file",
        "load_weights": "weights.load",
        "from_pretrained": "hub.from_pretrained",
        "save_pretrained": "hub.save_pretrained",
        "push_to_hub": "hub.push_to_hub",
    }
)

__all__ = [
    "__version__",
    *_HOMES,
    *_MODULES,
]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        # `ops.mean_field` the module and `mean_field` the function: take the function
        value = getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = importlib.import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
