"""Layers of the nets: atrous convolution and pooling, ASPP, the dense CRF, frozen batch norm."""

from .algorithm import set_algorithm, using_algorithm
from .aspp import ASPP
from .atrous import AtrousConv2d
from .atrous_pool import AtrousAvgPool2d, AtrousMaxPool2d, atrous_avg_pool2d, atrous_max_pool2d
from .dense_crf import DenseCRF
from .frozen_batch_norm import FrozenBatchNorm2d

__all__ = [
    "ASPP",
    "AtrousAvgPool2d",
    "AtrousConv2d",
    "AtrousMaxPool2d",
    "DenseCRF",
    "FrozenBatchNorm2d",
    "atrous_avg_pool2d",
    "atrous_max_pool2d",
    "set_algorithm",
    "using_algorithm",
]
