"""Bias, residual and ReLU after a convolution in one pass over the map, for inference on CUDA."""

from __future__ import annotations

import math

import torch

from .._autograd import transforms_active
from .._native import call_cuda, has_kernels, memory_format, on_cuda

_TYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}
_ALIGNMENT = 16  # bytes that a thread reads at once


def takes(map: torch.Tensor) -> bool:
    """Whether `finish_` has a kernel for a convolution's result (B, C, H, W)."""
    if not (on_cuda(map) and has_kernels(map)) or map.dtype not in _TYPES:
        return False
    if transforms_active():  # whose tensors have no memory, and which it has no rules for
        return False
    layout = memory_format(map)
    if layout == torch.channels_last and map.shape[1] * map.element_size() % _ALIGNMENT:
        return False
    return map.is_contiguous(memory_format=layout) and map.data_ptr() % _ALIGNMENT == 0


def finish_(
    map: torch.Tensor, bias: torch.Tensor, residual: torch.Tensor | None, *, relu: bool
) -> torch.Tensor:
    """(map + bias) + residual in place, and its ReLU; summed in float32, rounded once.

    Args:
        map: (B, C, H, W) that `takes` takes.
        bias: (C,) float32, contiguous.
        residual: (B, C, H, W) of the map's dtype, or None.
        relu: whether what is negative becomes 0; NaN stays.
    """
    layout = memory_format(map)
    if residual is not None:
        residual = residual.contiguous(memory_format=layout)
    batch, channels, height, width = map.shape
    call_cuda(
        "conv_epilogue_cuda",
        map,
        map.data_ptr(),
        bias.data_ptr(),
        0 if residual is None else residual.data_ptr(),
        (batch, channels, height * width),
        layout == torch.channels_last,
        0.0 if relu else -math.inf,
        math.inf,
        _TYPES[map.dtype],
    )
    return map
