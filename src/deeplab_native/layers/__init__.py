"""Layers of the nets: atrous convolution, ASPP, batch normalisation that stays frozen."""

from .aspp import ASPP
from .atrous import AtrousConv2d
from .frozen_batch_norm import FrozenBatchNorm2d

__all__ = ["ASPP", "AtrousConv2d", "FrozenBatchNorm2d"]
