"""The fused head as one op, on checked tensors.

Forward, everything happens within: the taps' offsets and their matrix, the sum of the biases, the
product. Backward, the ops of `_aspp_pack` and `_aspp_taps` do it: they have derivatives of their
own.
"""

from __future__ import annotations

from functools import reduce
from typing import Any

import torch

from .. import _variants
from .._native import define_op, on_cuda
from ._aspp_offsets import Taps, bands_of, in_order_of_rows, split_index, taps_of
from ._aspp_pack import (
    on_tensor_cores,
    pack,
    pack_taps,
    pack_with_biases,
    padded_filters,
    unpack_taps,
)
from ._aspp_panels import panels_forward, takes_panels
from ._aspp_product import new_out, product_on_cuda
from ._aspp_taps import taps_backward, taps_forward
from ._aspp_transforms import tangents_of_branches, vmap_branches
from .atrous_im2col import sum_dtype


def _forward(
    input: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor], rates: list[int]
) -> torch.Tensor:
    taps = taps_of(weights, rates, input.shape[2:])
    if on_cuda(input):
        return _forward_cuda(input, weights, biases, taps)
    bias = None
    if biases:
        sums = sum_dtype(input.dtype)
        bias = reduce(torch.add, [bias.to(sums) for bias in biases]).contiguous()
    if takes_panels(input):
        weights = [weight.to(input.dtype) for weight in weights]
        return panels_forward(input, weights, bias, taps.rows, taps.offsets)
    filters = weights[0].shape[0]
    matrix = pack(weights, taps.rows, len(taps.pairs), filters, input.dtype)
    return taps_forward(input, matrix, bias, taps.offsets, filters)


def _forward_cuda(
    input: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor], taps: Taps
) -> torch.Tensor:
    filters = weights[0].shape[0]
    padded = padded_filters(input, filters, input.dtype)
    bands = None
    if not on_tensor_cores(input.dtype) and _variants.chosen("aspp_float_rows") == "bands":
        taps = in_order_of_rows(taps)
        bands = bands_of(taps.pairs, input.shape[2])
    packed = pack_with_biases(weights, biases, taps, padded, input.dtype)
    if packed is not None:
        matrix, bias = packed
        return product_on_cuda(input, matrix, bias, taps.pairs, filters, padded, bands)
    sums = _sum_of_many(biases, sum_dtype(input.dtype)) if biases else None
    rows = pack(weights, taps.rows, len(taps.pairs), padded, input.dtype)
    return taps_forward(input, rows, sums, taps.offsets, filters)


def _sum_of_many(biases: list[torch.Tensor], dtype: torch.dtype) -> torch.Tensor:
    """(O,), on CUDA: as weights of one pixel, all at the same offset."""
    weights = [bias[:, None, None, None] for bias in biases]
    return pack(weights, [0] * len(biases), 1, len(biases[0]), dtype).view(-1)


def _forward_fake(
    input: torch.Tensor, weights: list[torch.Tensor], biases: list[torch.Tensor], rates: list[int]
) -> torch.Tensor:
    return new_out(input, weights[0].shape[0])


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, weights, biases, ctx.rates = inputs
    ctx.bias_dtypes = [bias.dtype for bias in biases]
    ctx.save_for_backward(input, *weights)


def _gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    input, *weights = ctx.saved_tensors
    need_input, need_weights, need_biases = ctx.needs_input_grad[:3]
    mask = [need_input, any(need_weights)]
    for_input = None
    for_weights: list[torch.Tensor | None] = [None] * len(weights)
    for_biases: list[torch.Tensor | None] = [None] * len(ctx.bias_dtypes)
    if any(mask):
        index, offsets, *_ = taps_of(weights, ctx.rates, input.shape[2:])
        filters = grad.shape[1]
        padded = padded_filters(input, filters, input.dtype)
        taps = pack_taps(weights, index, len(offsets) // 2, padded, input.dtype)
        grads = taps_backward(grad, input, taps, offsets, mask)
        for_input = grads[0] if need_input else None
        rows = split_index(index, [weight.shape[2:] for weight in weights])
        for i, (weight, own) in enumerate(zip(weights, rows, strict=True)):
            if need_weights[i]:
                unpacked = unpack_taps(grads[1], filters, weight.shape[2:], own)
                for_weights[i] = unpacked.to(weight.dtype)
    if any(need_biases):
        total = grad.sum((0, 2, 3), dtype=sum_dtype(grad.dtype))
        # a copy each: autograd adds the next pass's gradients to these
        for_biases = [
            total.to(dtype, copy=True) if need else None
            for need, dtype in zip(need_biases, ctx.bias_dtypes, strict=True)
        ]
    return for_input, for_weights, for_biases, None


aspp_branches = define_op(
    "aspp_branches(Tensor input, Tensor[] weights, Tensor[] biases, int[] rates) -> Tensor",
    cpu=_forward,
    cuda=_forward,
    fake=_forward_fake,
    vmap=vmap_branches,
    tangents=tangents_of_branches,
    backward=_gradient,
    setup_context=_save_for_backward,
)
