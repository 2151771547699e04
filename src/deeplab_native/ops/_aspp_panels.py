"""The fused head of float32 and float64 on the CPU, on checked tensors.

The weights are put into panels in every call, which takes a twentieth of its time (41 x 41, 2048
channels, 21 filters). They are not kept for the next call: whether they are still the same cannot
be told, since what is written through `.data`, through NumPy or by another process leaves the
tensor's version as it was.
"""

from __future__ import annotations

import math

import torch

from .. import _C
from .._native import define_op, memory_format, num_threads, on_cuda
from . import _aspp_taps
from ._aspp_pack import pack_taps, split_index, unpack_taps
from ._aspp_taps import new_out, taps_backward


def takes_panels(input: torch.Tensor, dtype: torch.dtype) -> bool:
    """Whether `aspp_branches` computes with this input in this dtype."""
    on_cpu = input.device.type == "cpu" and not on_cuda(input)
    return on_cpu and dtype in (torch.float32, torch.float64)


def _forward(input, weights, bias, index, offsets) -> torch.Tensor:
    layout = memory_format(input)
    input = input.contiguous(memory_format=layout)
    bias = None if bias is None else bias.contiguous()
    filters = weights[0].shape[0]
    flat = [weight.flatten(2) for weight in weights]  # most often a view
    rows = split_index(index, [weight.shape[2:] for weight in weights])
    branches = [(w.data_ptr(), w.stride(), own) for w, own in zip(flat, rows, strict=True)]
    pairs = list(zip(offsets[::2], offsets[1::2], strict=True))

    image_bytes = len(pairs) * filters * math.prod(input.shape[2:]) * input.element_size()
    images = max(1, min(input.shape[0], _aspp_taps.PRODUCT_BYTES["cpu"] // image_bytes))
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


def _forward_fake(input, weights, bias, index, offsets):
    return new_out(input, weights[0].shape[0])


def _save_for_backward(ctx, inputs, output) -> None:
    input, weights, bias, ctx.index, ctx.offsets = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(input, *weights)


def _gradient(ctx, grad):
    input, *weights = ctx.saved_tensors
    need_input, need_weights, need_bias = ctx.needs_input_grad[:3]
    mask = [need_input, any(need_weights)]
    for_input = for_bias = None
    for_weights = [None] * len(weights)
    if any(mask):
        filters = grad.shape[1]
        taps = pack_taps(weights, ctx.index, len(ctx.offsets) // 2, filters, input.dtype)
        grads = taps_backward(grad, input, taps, ctx.offsets, mask)
        for_input = grads[0] if need_input else None
        rows = split_index(ctx.index, [weight.shape[2:] for weight in weights])
        for i, (weight, index) in enumerate(zip(weights, rows, strict=True)):
            if need_weights[i]:
                for_weights[i] = unpack_taps(grads[1], filters, weight.shape[2:], index)
    if need_bias:
        for_bias = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
    return for_input, for_weights, for_bias, None, None


aspp_branches = define_op(
    "aspp_branches(Tensor input, Tensor[] weights, Tensor? bias, int[] index, int[] offsets)"
    " -> Tensor",
    cpu=_forward,
    fake=_forward_fake,
    backward=_gradient,
    setup_context=_save_for_backward,
)
