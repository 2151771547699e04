"""Frozen batch normalisation folded into the convolution before it, for inference."""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn

from .. import _variants
from .._native import on_cuda
from ..ops._conv_epilogue import finish_, takes
from ..ops.atrous_conv import atrous_conv2d
from .atrous import AtrousConv2d
from .frozen_batch_norm import FrozenBatchNorm2d


class FoldedConv(nn.Module):
    """A convolution and the frozen batch normalisation after it, as one convolution with a bias.

    Its weight is weight * s and its bias (bias of bn) - running_mean * s, with s = (weight of bn) /
    sqrt(running_var + eps). s and the bias are computed in float64, the products in float32 at
    least. So the result is that of both layers up to rounding. Without gradients.

    On CUDA torch would add the bias in a pass of its own over the map, which costs what the
    normalisation did: there one kernel of ours does that, with what comes after it.

    Args:
        conv, bn: the two layers; what they hold is copied.
        dtype: of the weight; None: that of `conv`. The bias is float32 at least.
        memory_format: of the weight.
    """

    weight: torch.Tensor
    bias: torch.Tensor

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
        self.register_buffer("weight", weight.to(dtype, memory_format=memory_format))
        self.register_buffer("bias", bias.to(torch.promote_types(dtype, torch.float32)))
        self.eval()

    def forward(
        self, input: torch.Tensor, residual: torch.Tensor | None = None, relu: bool = False
    ) -> torch.Tensor:
        """(B, C, H, W) -> (B, N, H', W'), as `AtrousConv2d`.

        residual: of the result's shape, added to it; relu: whether ReLU comes last.
        """
        if input.is_cuda and relu and _variants.chosen("net_epilogue") == "cudnn":
            with suppress(RuntimeError):  # it has no such kernel for some
                return self._by_cudnn(input, residual)
        if on_cuda(input):
            map = self._convolve(input, None)
            if takes(map):
                return finish_(map, self.bias, residual, relu=relu)
            map += self.bias.to(map.dtype)[:, None, None]
        else:
            map = self._convolve(input, self.bias.to(input.dtype))
        if residual is not None:
            map += residual
        return nn.functional.relu(map, inplace=True) if relu else map

    def _convolve(self, input: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
        return atrous_conv2d(
            input,
            self.weight,
            bias,
            stride=self.stride,
            padding=self.padding,
            rate=self.rate,
            algorithm=self.algorithm,
        )

    def _by_cudnn(self, input: torch.Tensor, residual: torch.Tensor | None) -> torch.Tensor:
        """The fused kernels that cuDNN has for some convolutions; RuntimeError for others."""
        geometry = self.stride, self.padding, self.rate, 1
        bias = self.bias.to(input.dtype)
        if residual is None:
            return torch.cudnn_convolution_relu(input, self.weight, bias, *geometry)
        return torch.cudnn_convolution_add_relu(input, self.weight, residual, 1.0, bias, *geometry)
