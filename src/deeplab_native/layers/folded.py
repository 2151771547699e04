"""Frozen batch normalisation folded into the convolution before it, for inference."""

from __future__ import annotations

import torch
from torch import nn

from ..ops.atrous_conv import atrous_conv2d
from .atrous import AtrousConv2d
from .frozen_batch_norm import FrozenBatchNorm2d


class FoldedConv(nn.Module):
    """A convolution and the frozen batch normalisation after it, as one convolution with a bias.

    Its weight is weight * s and its bias (bias of bn) - running_mean * s, with s = (weight of bn) /
    sqrt(running_var + eps). s and the bias are computed in float64, the products in float32 at
    least. So the result is that of both layers up to rounding. Without gradients.

    Args:
        conv, bn: the two layers; what they hold is copied.
        dtype: of weight and bias; None: that of `conv`.
        memory_format: of the weight.
    """

    def __init__(
        self,
        conv: AtrousConv2d,
        bn: FrozenBatchNorm2d,
        dtype: torch.dtype | None = None,
        memory_format: torch.memory_format = torch.preserve_format,
    ) -> None:
        super().__init__()
        self.stride, self.padding, self.rate = conv.stride, conv.padding, conv.rate
        self.algorithm = conv.algorithm
        with torch.no_grad():
            dtype = dtype or conv.weight.dtype
            scale = bn.weight.double() / (bn.running_var.double() + bn.eps).sqrt()
            own = 0 if conv.bias is None else conv.bias.double() * scale
            bias = own + bn.bias.double() - bn.running_mean.double() * scale
            wide = torch.promote_types(conv.weight.dtype, torch.float32)
            weight = conv.weight.to(wide) * scale.to(wide)[:, None, None, None]
        self.weight: torch.Tensor
        self.bias: torch.Tensor
        self.register_buffer("weight", weight.to(dtype, memory_format=memory_format))
        self.register_buffer("bias", bias.to(dtype))
        self.eval()

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """(B, C, H, W) -> (B, N, H', W'), as `AtrousConv2d`."""
        return atrous_conv2d(
            input,
            self.weight,
            self.bias,
            stride=self.stride,
            padding=self.padding,
            rate=self.rate,
            algorithm=self.algorithm,
        )
