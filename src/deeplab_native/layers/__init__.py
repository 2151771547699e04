"""Layers of the nets: atrous convolution and pooling, ASPP, dense CRF, batch norm; losses."""

from .algorithm import set_algorithm, using_algorithm
from .aspp import ASPP
from .atrous import AtrousConv2d
from .atrous_pool import AtrousAvgPool2d, AtrousMaxPool2d, atrous_avg_pool2d, atrous_max_pool2d
from .constrain_to_boundary_loss import ConstrainToBoundaryLoss
from .dense_crf import DenseCRF
from .dense_crf_loss import DenseCRFLoss
from .frozen_batch_norm import FrozenBatchNorm2d

__all__ = [
    "ASPP",
    "AtrousAvgPool2d",
    "AtrousConv2d",
    "AtrousMaxPool2d",
    "ConstrainToBoundaryLoss",
    "DenseCRF",
    "DenseCRFLoss",
    "FrozenBatchNorm2d",
    "atrous_avg_pool2d",
    "atrous_max_pool2d",
    "set_algorithm",
    "using_algorithm",
]
