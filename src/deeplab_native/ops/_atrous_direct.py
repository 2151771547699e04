"""The direct convolution of `atrous_conv2d`, on checked CUDA tensors: plans, memory and calls.

Chen et al. 2017, section 3.1, the first implementation, without the columns in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch

from .._native import call_cuda, convolutions_use_tf32, memory_format
from . import _atrous_pipelined
from .atrous_im2col import Geometry, Pair, output_size, sum_dtype

Grads = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # of input, weight and bias

# Rows and columns of the result that one block of threads computes: TileShape in the CUDA sources,
# in the same order.
LARGE, SMALL, NARROW = range(3)
TILES = ((128, 128), (64, 64), (128, 32))
STEP_BYTES = 64  # of the terms of each sum, multiplied in one step

# The plans aim at this many blocks, enough for two on each multiprocessor of the largest GPUs. Not
# the device's own number: the same tensors give the same bits on all devices of one architecture.
BLOCKS = 264
MIN_STEPS = 8  # of one part: less does not pay for writing the part and adding it
MAX_PARTS = 32
PART_BYTES = 64 * 2**20  # of all parts together


class Plan(NamedTuple):
    """Mirrors DirectPlan of csrc/ops/atrous_direct.h."""

    tile: int
    parts: int


def make_plan(rows: int, cols: int, terms: int, repeats: int, dtype: torch.dtype) -> Plan:
    """How to compute `repeats` products of rows x cols results, sums of `terms` terms each."""

    def blocks(tile: int) -> int:
        height, width = TILES[tile]
        return repeats * -(-rows // height) * -(-cols // width)

    tile = LARGE
    if cols <= TILES[NARROW][1]:
        tile = NARROW
    elif dtype == torch.float64 or min(rows, cols) <= TILES[SMALL][0] or blocks(LARGE) < BLOCKS / 8:
        tile = SMALL
    steps = -(-terms * dtype.itemsize // STEP_BYTES)
    part_bytes = repeats * rows * cols * sum_dtype(dtype).itemsize
    parts = min(
        BLOCKS // max(1, blocks(tile)),
        steps // MIN_STEPS,
        MAX_PARTS,
        PART_BYTES // max(1, part_bytes),
    )
    return Plan(tile, max(1, parts))


def direct_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Pair,
    padding: Pair,
    rate: Pair,
) -> torch.Tensor:
    kernel = weight.shape[2], weight.shape[3]
    size = output_size(input.shape, kernel, stride, padding, rate)
    _check_reach(input, kernel, padding, rate)
    filters, channels = weight.shape[:2]
    out = torch.empty(
        (input.shape[0], filters, *size),
        dtype=input.dtype,
        device=input.device,
        memory_format=memory_format(input),
    )
    if _atrous_pipelined.fits(input, weight, size):
        _atrous_pipelined.forward(input, weight, bias, out, stride, padding, rate)
        return out
    by_tap = weight.permute(0, 2, 3, 1).contiguous()
    bias = None if bias is None else bias.contiguous()
    _call(
        "atrous_direct_cuda",
        (input, by_tap, bias),
        out,
        (input, out),
        (kernel, stride, padding, rate),
        _plan(out.numel() // filters, filters, channels * kernel[0] * kernel[1], 1, input.dtype),
    )
    return out


def direct_backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    mask: Sequence[bool],
) -> Grads:
    """The needed gradients; the others have no elements."""
    kernel = weight.shape[2], weight.shape[3]
    geometry = kernel, stride, padding, rate
    _check_reach(input, kernel, padding, rate)
    filters, channels = weight.shape[:2]
    taps = kernel[0] * kernel[1]
    grad_input, grad_weight = input.new_empty(0), input.new_empty(0)
    if mask[0]:
        grad_input = torch.empty_like(input, memory_format=memory_format(input))
        by_tap = weight.permute(1, 2, 3, 0).contiguous()
        plan = _plan(input.numel() // channels, channels, filters * taps, 1, input.dtype)
        tensors = (grad, by_tap), grad_input, (grad_input, grad)
        _call("atrous_direct_map_gradient_cuda", *tensors, geometry, plan)
    if mask[1]:
        by_tap = weight.new_empty((filters, *kernel, channels))
        pixels = grad.numel() // filters
        plan = _plan(channels, filters, pixels, taps, input.dtype)
        tensors = (input, grad), by_tap, (input, grad)
        _call("atrous_direct_weight_gradient_cuda", *tensors, geometry, plan)
        grad_weight = by_tap.permute(0, 3, 1, 2).contiguous()
    grad_bias = grad.sum((0, 2, 3)) if mask[2] else grad.new_empty(0)
    return grad_input, grad_weight, grad_bias


def _plan(rows: int, cols: int, terms: int, repeats: int, dtype: torch.dtype) -> Plan:
    return make_plan(rows, cols, terms, repeats, dtype)


def _check_reach(input: torch.Tensor, kernel: Pair, padding: Pair, rate: Pair) -> None:
    """Places on a map are 32-bit integers in the kernels."""
    limit = 2**30
    sizes = zip(input.shape[2:], kernel, padding, rate, strict=True)
    if max(max(n + 2 * p, k * r) for n, k, p, r in sizes) > limit:
        raise ValueError(
            f"input: algorithm 'direct' takes padded maps and fields of view up to {limit} pixels "
            f"high and wide, got {tuple(input.shape)} with padding {padding}, rate {rate}"
        )


def _type_name(dtype: torch.dtype) -> str:
    if dtype == torch.float32 and convolutions_use_tf32():
        return "tfloat32"
    return str(dtype).removeprefix("torch.")


def _call(
    kernel: str,
    factors: Sequence[torch.Tensor | None],
    result: torch.Tensor,
    map_and_out: tuple[torch.Tensor, torch.Tensor],
    geometry: Geometry,
    plan: Plan,
) -> None:
    """kernel(factors, result, room for its parts, shapes and strides, geometry, type, plan)."""
    map, out = map_and_out
    partial = 0
    if plan.parts > 1:
        room = result.new_empty(plan.parts * result.numel(), dtype=sum_dtype(result.dtype))
        partial = room.data_ptr()
    call_cuda(
        kernel,
        result,
        *(0 if factor is None else factor.data_ptr() for factor in factors),
        result.data_ptr(),
        partial,
        tuple(map.shape),
        map.stride(),
        tuple(out.shape),
        out.stride(),
        *geometry,
        _type_name(result.dtype),
        plan,
    )
