"""The direct convolution on tensor cores of compute capability 8.0 and newer: plans and calls.

The kernel takes pixels whose channels are adjacent, a whole number of 16 bytes of them; other maps,
and weights by filter, are copied to that layout first.
"""

from __future__ import annotations

from functools import lru_cache

import torch

from .. import _variants
from .._native import call_cuda, convolutions_use_tf32
from .atrous_im2col import Pair

# Rows and columns of the result that one block of threads computes: PipelinedTile in the CUDA
# sources, in the same order, the largest first.
TILES = ((256, 128), (128, 128), (128, 64), (64, 64), (128, 32))
STEP_BYTES = 128  # of the terms of each sum, multiplied in one step

# What a plan is chosen by. Not the device's own numbers: the same tensors give the same bits on all
# devices that have room for the same tiles. Clocks of a multiprocessor: 2540 operations in one
# (mma.sync reaches 62 % of what an H100 has), 24 bytes of what L2 gives all of them.
MULTIPROCESSORS = 132
BLOCKS_AT_ONCE = (1, 2, 3, 4, 3)  # of a tile on a multiprocessor, by shared memory
OPERATIONS, L2_BYTES = 2540, 24
LATENCY = 3000  # until the first lines of a block are there, and for its results
LAUNCH = 3000  # the second kernel, that adds parts
MAX_PARTS = 32
MIN_STEPS = 4  # of one part
PART_BYTES = 64 * 2**20  # of all parts together

_first_tiles: dict[int | None, int] = {}  # by device: atrous_pipelined_first_tile, which stays


def first_tile(tensor: torch.Tensor) -> int:
    """The first of TILES that the tensor's device has room for; -1: it has not got the kernel."""
    index = tensor.device.index
    if index not in _first_tiles:
        _first_tiles[index] = call_cuda("atrous_pipelined_first_tile_cuda", tensor)
    return _first_tiles[index]


def fits(input: torch.Tensor, weight: torch.Tensor, size: Pair) -> bool:
    """Whether `forward` can compute it: type, device and 32-bit offsets."""
    half = input.dtype in (torch.bfloat16, torch.float16)
    if not (half or (input.dtype == torch.float32 and convolutions_use_tf32())):
        return False
    if _variants.chosen("direct") == "registers" or first_tile(input) < 0:
        return False
    batch, channels, height, width = input.shape
    filters, _, kernel_h, kernel_w = weight.shape
    vectors = -(-channels * input.element_size() // 16)
    return (
        max(batch * height * width, filters * kernel_h * kernel_w) * vectors < 2**30
        and batch * filters * size[0] * size[1] < 2**31
        and filters <= 2**16  # blocks of the grid's second axis, with room to spare
    )


def clocks(tile: int, parts: int, batch: int, pixels: int, filters: int, steps: int) -> float:
    """What a multiprocessor is expected to take for its share of the blocks."""
    rows, cols = TILES[tile]
    row_tiles = -(-batch * pixels // rows) if parts == 1 else batch * -(-pixels // rows)
    rounds = -(-row_tiles * -(-filters // cols) * parts // MULTIPROCESSORS)
    of_step = max(
        rows * cols * STEP_BYTES / OPERATIONS,  # terms of 2 bytes, two operations each
        (rows + cols) * STEP_BYTES / L2_BYTES,
    )
    # blocks share a multiprocessor's arithmetic and bytes, and wait beside one another: a single
    # block of 4 warps loses some two fifths of its time, 8 warps a tenth
    at_once = min(BLOCKS_AT_ONCE[tile], rounds)
    waits = 0.4 / at_once * (0.25 if tile == 0 else 1.0)
    time = rounds * -(-steps // parts) * of_step * (1 + waits) + LATENCY * -(-rounds // at_once)
    if parts > 1:
        moved = (2 * parts + 1) * 4 * batch * pixels * filters
        time += LAUNCH + moved / MULTIPROCESSORS / L2_BYTES
    return time


def make_plan(
    batch: int, pixels: int, filters: int, terms: int, dtype: torch.dtype, first: int
) -> tuple[int, int]:
    """(tile, parts) of a product of batch * pixels x filters results, sums of `terms` each.

    first: the first tile that there is room for.
    """
    steps = -(-terms * dtype.itemsize // STEP_BYTES)
    forced = _variants.number("direct") - 1  # -1: planned
    return _plan(batch, pixels, filters, steps, first, forced)


@lru_cache(maxsize=1024)
def _plan(
    batch: int, pixels: int, filters: int, steps: int, first: int, forced: int
) -> tuple[int, int]:
    tiles = range(first, len(TILES)) if forced < 0 else (max(first, forced),)
    part_bytes = 4 * batch * pixels * filters
    most = max(1, min(steps // MIN_STEPS, MAX_PARTS, PART_BYTES // max(1, part_bytes)))
    plans = [(tile, parts) for tile in tiles for parts in range(1, most + 1)]
    return min(plans, key=lambda plan: clocks(plan[0], plan[1], batch, pixels, filters, steps))


def lines(map: torch.Tensor) -> torch.Tensor:
    """(B, C, H, W) with adjacent channels, whole vectors of 16 bytes; those added are zero.

    The map itself where it is like that.
    """
    items = 16 // map.element_size()
    batch, channels, height, width = map.shape
    strides = map.stride()
    if (
        strides[1] == 1
        and channels % items == 0
        and not any(s % items for s in (strides[0], *strides[2:]))
        and map.data_ptr() % 16 == 0
    ):
        return map
    if strides[2] != width * strides[3]:
        map = map.contiguous()
        strides = map.stride()
    padded = -(-channels // items) * items
    out = map.new_empty((batch, height, width, padded))
    call_cuda(
        "channels_last_cuda",
        map,
        map.data_ptr(),
        out.data_ptr(),
        (batch, channels, height * width),
        (strides[0], strides[1], strides[3]),
        padded,
        map.element_size(),
    )
    return out.permute(0, 3, 1, 2)


def forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    out: torch.Tensor,
    stride: Pair,
    padding: Pair,
    rate: Pair,
) -> None:
    """The convolution, where it `fits`, to `out`, dense in either layout."""
    if out.numel() == 0:
        return
    batch, filters, height, width = out.shape
    map, by_tap = lines(input), lines(weight)
    if not by_tap.is_contiguous(memory_format=torch.channels_last):
        by_tap = by_tap.contiguous(memory_format=torch.channels_last)
    kernel = weight.shape[2], weight.shape[3]
    terms = map.shape[1] * kernel[0] * kernel[1]
    plan = make_plan(batch, height * width, filters, terms, out.dtype, first_tile(out))
    partial = 0
    if plan[1] > 1:
        room = torch.empty(plan[1] * out.numel(), dtype=torch.float32, device=out.device)
        partial = room.data_ptr()
    bias = None if bias is None else bias.contiguous()
    call_cuda(
        "atrous_pipelined_cuda",
        out,
        map.data_ptr(),
        by_tap.data_ptr(),
        0 if bias is None else bias.data_ptr(),
        out.data_ptr(),
        partial,
        tuple(map.shape),
        map.stride(),
        tuple(out.shape),
        out.stride(),
        kernel,
        stride,
        padding,
        rate,
        "tfloat32" if out.dtype == torch.float32 else str(out.dtype).removeprefix("torch."),
        plan,
    )
