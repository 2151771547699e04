"""The fused head of float32 and float64 on the CPU, on checked tensors.

The weights are put into panels in every call, which takes a twentieth of its time (41 x 41, 2048
channels, 21 filters). They are not kept for the next call: whether they are still the same cannot
be told, since what is written through `.data`, through NumPy or by another process leaves the
tensor's version as it was.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch

from .. import _C
from .._native import memory_format, num_threads, on_cuda
from . import _aspp_product
from ._aspp_offsets import split_index


def takes_panels(input: torch.Tensor) -> bool:
    """Whether `panels_forward` computes with this input."""
    on_cpu = input.device.type == "cpu" and not on_cuda(input)
    return on_cpu and input.dtype in (torch.float32, torch.float64)


def panels_forward(
    input: torch.Tensor,
    weights: list[torch.Tensor],
    bias: torch.Tensor | None,
    index: Sequence[int],
    offsets: Sequence[int],
) -> torch.Tensor:
    """The head, all tensors of one dtype; bias (O,) or None."""
    layout = memory_format(input)
    input = input.contiguous(memory_format=layout)
    filters = weights[0].shape[0]
    flat = [weight.flatten(2) for weight in weights]  # most often a view
    rows = split_index(index, [weight.shape[2:] for weight in weights])
    branches = [(w.data_ptr(), w.stride(), own) for w, own in zip(flat, rows, strict=True)]
    pairs = list(zip(offsets[::2], offsets[1::2], strict=True))

    image_bytes = len(pairs) * filters * math.prod(input.shape[2:]) * input.element_size()
    images = max(1, min(input.shape[0], _aspp_product.PRODUCT_BYTES["cpu"] // image_bytes))
    out = input.new_empty(input.shape[0], filters, *input.shape[2:])
    _C.aspp_forward_cpu(
        input.data_ptr(),
        branches,
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        tuple(input.shape),
        layout == torch.channels_last,
        filters,
        images,
        pairs,
        str(input.dtype).removeprefix("torch."),
        num_threads(),
    )
    return out.contiguous(memory_format=layout)
