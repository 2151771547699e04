"""DeepLab v2 as native kernels for PyTorch: atrous convolution, ASPP, fully connected CRF.

Importing this package imports nothing heavy: every name below is loaded at its first use.
This is also the one place that knows all layers: what a lower one needs of a higher one is named
here (`_late`).
"""

from __future__ import annotations

import importlib

from ._C import __version__ as __version__
from ._late import provide as _provide

TYPE_CHECKING = False  # type checkers know the name; to import typing takes longer than all this
if TYPE_CHECKING:  # `as`: these names are the package's own, not imports of this file
    from . import crf as crf
    from . import data as data
    from . import hub as hub
    from . import interop as interop
    from . import jobs as jobs
    from . import layers as layers
    from . import metrics as metrics
    from . import models as models
    from . import ops as ops
    from . import pydensecrf as pydensecrf
    from . import viz as viz
    from . import weights as weights
    from .crf import CRFParams as CRFParams
    from .crf import MeanField as MeanField
    from .crf import PairwiseKernel as PairwiseKernel
    from .crf import refine as refine
    from .layers import ASPP as ASPP
    from .layers import AtrousConv2d as AtrousConv2d
    from .layers import ConstrainToBoundaryLoss as ConstrainToBoundaryLoss
    from .layers import DenseCRFLoss as DenseCRFLoss
    from .layers import set_algorithm as set_algorithm
    from .models.output_stride import set_output_stride as set_output_stride
    from .ops.aspp import aspp as aspp
    from .ops.atrous_conv import atrous_conv1d as atrous_conv1d
    from .ops.atrous_conv import atrous_conv2d as atrous_conv2d
    from .ops.atrous_im2col import atrous_col2im as atrous_col2im
    from .ops.atrous_im2col import atrous_im2col as atrous_im2col
    from .ops.dense_crf import dense_crf as dense_crf
    from .ops.gauss_transform import gauss_transform as gauss_transform
    from .ops.mean_field import mean_field as mean_field
    from .ops.permutohedral import permutohedral_filter as permutohedral_filter
    from .ops.random_walk import random_walk as random_walk
    from .ops.space_to_batch import batch_to_space as batch_to_space
    from .ops.space_to_batch import space_to_batch as space_to_batch
    from .ops.upsample_unary import upsample_unary as upsample_unary

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
    "gauss_transform": "ops.gauss_transform",
    "mean_field": "ops.mean_field",
    "dense_crf": "ops.dense_crf",
    "random_walk": "ops.random_walk",
    "CRFParams": "crf",
    "MeanField": "crf",
    "PairwiseKernel": "crf",
    "refine": "crf",
    "AtrousConv2d": "layers",
    "ASPP": "layers",
    "DenseCRFLoss": "layers",
    "ConstrainToBoundaryLoss": "layers",
    "set_algorithm": "layers",
    "set_output_stride": "models.output_stride",
}
_MODULES = (
    "crf",
    "data",
    "hub",
    "interop",
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


if not TYPE_CHECKING:  # which would take every name for one of any type

    def __getattr__(name: str) -> object:
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
