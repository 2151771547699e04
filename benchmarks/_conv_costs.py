"""What the kernels of convolution, ASPP and upsampling move and compute, each input read anew.

Products that torch computes (cuBLAS, cuDNN) count at the same ceilings, with every byte moved once.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch

from _roofline import WARP, Cost, Issue, Phase
from deeplab_native.ops import _atrous_pipelined as pipelined
from deeplab_native.ops._aspp_offsets import merge_taps
from deeplab_native.ops._atrous_direct import NARROW, SMALL, STEP_BYTES, TILES, make_plan
from deeplab_native.ops._conv_algorithms import windows

DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
SHARED_TURNS = 3  # of shared memory for 32 items of a strided row, see NOTES.md
TILE_NAMES = ("128, 128, 32, 64", "64, 64, 32, 32", "128, 32, 32, 32")  # tile_shape.cuh
ELEMENTS = {"bfloat16": "Bfloat16", "float32": "float"}
BITS = {"bfloat16": "unsigned short", "float32": "unsigned int"}


def row_threads(rows: float, items: float) -> float:
    """Threads of launch_rows in cuda/rows.cuh: a row has a power of two of them, 256 at most."""
    width = 1
    while width < 256 and width < items:
        width *= 2
    return rows * width


def product(name: str, flops: float, dtype: str, unique: float, **more) -> Cost:
    """On tensor cores, or for float32 without."""
    if dtype == "float32":
        return Cost(name, 1, unique, flops=flops, **more)
    return Cost(name, 1, unique, tensor=("tensor16", flops), **more)


@dataclass(frozen=True)
class Conv:
    """A 3 x 3 convolution of square maps, stride 1, as much padding as rate."""

    channels: int
    filters: int
    rate: int
    size: int
    batch: int
    dtype: str

    @property
    def item(self) -> int:
        return DTYPES[self.dtype].itemsize

    @property
    def pixels(self) -> int:
        return self.batch * self.size**2

    @property
    def map_bytes(self) -> int:
        return self.item * self.channels * self.pixels

    @property
    def out_bytes(self) -> int:
        return self.item * self.filters * self.pixels

    @property
    def weight_bytes(self) -> int:
        return self.item * 9 * self.channels * self.filters

    @property
    def valid(self) -> int:
        """Pairs of a tap and a pixel that lie on the map, of 9 for each pixel."""
        line = self.size + 2 * max(0, self.size - self.rate)
        return self.batch * line * line


def library_conv(c: Conv, name: str = "conv2d") -> Cost:
    """As a library that knows no padding computes it: 9 taps of every pixel."""
    flops = 2.0 * c.channels * c.filters * 9 * c.pixels
    inputs = c.map_bytes + c.weight_bytes
    return product(name, flops, c.dtype, inputs + c.out_bytes, new=inputs)


def taps_in_reach(c: Conv, rows: int) -> int:
    """Of all blocks of `rows` pixels: the taps that lie on the map under one of them at least."""
    pixel = torch.arange(-(-c.pixels // rows) * rows)
    y, x = pixel // c.size % c.size, pixel % c.size
    y[c.pixels :] = -c.size - c.rate  # beyond the last pixel
    reached = 0
    for dy in (-c.rate, 0, c.rate):
        for dx in (-c.rate, 0, c.rate):
            valid = (y + dy >= 0) & (y + dy < c.size) & (x + dx >= 0) & (x + dx < c.size)
            reached += int(valid.view(-1, rows).any(1).sum())
    return reached


def taps_by_rectangle(c: Conv, rows: int, images: int) -> int:
    """The same, for pixels in the order of cuda/tap_order.cuh: tiles of `images` maps each."""
    cuts = sorted({0, c.size, *(cut for cut in (c.rate, c.size - c.rate) if 0 < cut < c.size)})
    ranges = list(itertools.pairwise(cuts))
    order = [
        [(y, x) for y in range(*ys) for x in range(*xs)] * images for ys in ranges for xs in ranges
    ]
    pixels = list(itertools.chain(*order))
    reached = 0
    for first in range(0, len(pixels), rows):
        tile = set(pixels[first : first + rows])
        reached += sum(
            any(0 <= y + dy < c.size and 0 <= x + dx < c.size for y, x in tile)
            for dy in (-c.rate, 0, c.rate)
            for dx in (-c.rate, 0, c.rate)
        )
    return reached * (c.batch // images)


def pipelined_costs(c: Conv) -> list[Cost]:
    """The direct convolution of channels_last bf16 maps on compute capability 9.0.

    What its loop issues, two instructions for an mma, is a third of what it may.
    """
    plan = pipelined.make_plan(c.batch, c.size**2, c.filters, 9 * c.channels, DTYPES[c.dtype], 0)
    (rows, cols), parts = pipelined.TILES[plan[0]], plan[1]
    warp_rows, warp_cols = ((64, 64), (64, 64), (64, 32), (32, 32), (32, 32))[plan[0]]
    taps = taps_by_rectangle(c, rows, c.batch if parts == 1 else 1)
    line = pipelined.STEP_BYTES
    steps = taps * -(-c.filters // cols) * -(-c.channels * c.item // line)
    warps = rows // warp_rows * cols // warp_cols
    out = c.out_bytes if parts == 1 else 4 * parts * c.filters * c.pixels
    costs = [
        Cost("weights by tap", 1, 2 * c.weight_bytes, new=c.weight_bytes),
        product(
            "atrous_pipelined",
            2.0 * c.channels * c.filters * c.valid,
            c.dtype,
            c.map_bytes + c.weight_bytes + out,
            asked=steps * (rows + cols) * line + out,
            new=c.map_bytes,
            shared=steps * (warps * (warp_rows + warp_cols) + rows + cols) * line,
        ),
    ]
    if parts > 1:
        costs.append(Cost("atrous_direct_add", 1, out + c.out_bytes))
    return costs


def direct_costs(c: Conv) -> list[Cost]:
    """channels_last; a block skips the taps that reach the map from none of its pixels."""
    if c.dtype != "float32":
        return pipelined_costs(c)
    plan = make_plan(c.pixels, c.filters, 9 * c.channels, 1, DTYPES[c.dtype])
    height, width = TILES[plan.tile]
    warp_rows, warp_cols = 32, 32 if plan.tile in (SMALL, NARROW) else 64
    warps = height // warp_rows * width // warp_cols
    across = -(-c.filters // width)
    steps = taps_in_reach(c, height) * across * -(-c.channels * c.item // STEP_BYTES)
    out = c.out_bytes if plan.parts == 1 else 4 * plan.parts * c.filters * c.pixels
    depth = STEP_BYTES // c.item
    of_warp = warp_rows * warp_cols * depth // WARP
    issue = Issue(
        f"atrous_direct.cu atrous_direct_window_kernel<{ELEMENTS[c.dtype]}, false, "
        f"TileShape<{TILE_NAMES[plan.tile]}> >",
        steps * warps * WARP,
        marker="FFMA",
        of_item=of_warp,
    )
    costs = [
        Cost("weights by tap (torch)", 1, 2 * c.weight_bytes, new=c.weight_bytes),
        product(
            "atrous_direct",
            2.0 * c.channels * c.filters * c.valid,
            c.dtype,
            c.map_bytes + c.weight_bytes + out,
            asked=steps * (height + width) * STEP_BYTES + out,
            new=c.map_bytes,
            shared=steps * warps * (warp_rows + warp_cols) * STEP_BYTES,
            issues=[issue],
        ),
    ]
    if plan.parts > 1:
        costs.append(Cost("atrous_direct_add", 1, out + c.out_bytes))
    return costs


def im2col_costs(c: Conv) -> list[Cost]:
    """Contiguous maps, image by image in bands of at most 64 MiB of columns."""
    columns = c.item * 9 * c.channels * c.pixels
    pieces = c.batch * len(windows((c.size, c.size), 9 * c.channels, c.item))
    words = 9 * c.channels * c.pixels * c.item / 16
    flops = 2.0 * c.channels * c.filters * 9 * c.pixels
    issue = Issue(
        f"atrous_im2col.cu im2col_kernel<{BITS[c.dtype]}>",
        row_threads(9 * c.channels * c.batch, c.size**2 * c.item / 16 + 2),
        inner=(f"LDG.{8 * c.item}", words * 16 / c.item),
    )
    moved = product("product (torch)", flops, c.dtype, columns + c.weight_bytes + c.out_bytes)
    fill = Cost("im2col", pieces, c.map_bytes + columns, new=c.map_bytes, issues=[issue])
    return [fill, Cost(**moved.__dict__ | {"launches": pieces})]


def aspp_costs(size: int, batch: int, dtype: str, channels: int, filters: int) -> list[Cost]:
    """The fused head, channels_last: weights packed (and biases), a product, the sum over taps."""
    rates = (6, 12, 18, 24)
    _, offsets = merge_taps([(3, 3)] * 4, [(r, r) for r in rates], (size, size))
    taps, item = len(offsets), DTYPES[dtype].itemsize
    dense = dtype == "float32"  # on the plain units: no filters of zeros
    padded = filters if dense else -(-filters // (16 // item)) * (16 // item)
    pixels = batch * size**2
    weights = 4 * 9 * item * filters * channels
    matrix = item * taps * padded * channels
    y = item * taps * padded * pixels
    image = item * channels * pixels
    words = padded if dense else padded * item // 16
    element = ELEMENTS[dtype]
    whole = "true" if padded == filters else "false"
    kernel = (
        f"gather_dense_kernel<{element}>" if dense else f"gather_pixels_kernel<{element}, {whole}>"
    )
    gather = Issue(
        f"aspp.cu aspp_{kernel}",
        row_threads(batch * size, size * words),
        inner=(f"LDG.{8 * item}" if dense else "LDG.128", pixels * words * taps),
    )
    pack = Issue(
        f"aspp_pack.cu aspp_pack_kernel<{element}, {element}>",
        taps * padded * channels,
        marker=f"STG.{8 * item}",
        least=False,  # the shortest way has no row in reach
    )
    flops = 2.0 * taps * padded * channels * pixels
    return [
        Cost("aspp_pack", 1, weights + matrix, new=weights, issues=[pack]),
        product("product (torch)", flops, dtype, image + matrix + y, new=image),
        Cost(
            "aspp_gather",
            1,
            y + item * filters * pixels,
            flops=taps * padded * pixels,
            issues=[gather],
        ),
    ]


def space_to_batch_cost(
    size: tuple[int, ...], rate: int, dtype: str, channels_last: bool, back: bool
) -> Cost:
    """As bench_space_to_batch.py counts its bytes: of the blocks' padding only what is written."""
    batch, channels, height, width = size
    item = DTYPES[dtype].itemsize
    of_map = item * math.prod(size)
    block = (-(-height // rate), -(-width // rate))
    blocks = item * batch * rate * rate * channels * block[0] * block[1]
    unique = 2 * of_map if back else of_map + blocks
    moved = of_map if back else blocks
    name = "batch_to_space" if back else "space_to_batch"
    if channels_last:  # a row of threads to a pixel
        words, of_row = moved / 16, channels * item / 16
        issue = Issue(
            f"space_to_batch.cu {name}_pixels_kernel<Word16>",
            row_threads(words / of_row, of_row),
            inner=("STG.128", words),
        )
        return Cost(name, 1, unique, new=unique, issues=[issue])
    # Through shared memory: a turn of the loop for an item of `rate` blocks. Some three items of a
    # warp share a bank (sizes and rates of the nets), each as if it was a word of 128 bytes.
    issue = Issue(
        f"space_to_batch.cu {name}_kernel<{BITS[dtype]}>",
        blocks / item / rate,
        inner=(f"{'LDG' if back else 'STG'}.{8 * item}", blocks / item),
        depth=1,
    )
    shared = of_map + SHARED_TURNS * 4 * blocks / item
    return Cost(name, 1, unique, new=unique, shared=shared, issues=[issue])


def upsample_cost(size: int, out: int, labels: int, batch: int) -> Cost:
    """Scores (float32) to energies: each interpolated twice, 8 operations, and one exponential."""
    pixels, scores = batch * out**2, 4 * batch * labels * size**2
    name = "upsample_unary.cu upsample_unary_kernel<float>"
    issue = Issue(name, pixels, inner=("STG.32", pixels * labels))
    unique = scores + 4 * labels * pixels
    asked = (2 * 4 * 4 + 4) * labels * pixels
    return Cost("upsample_unary", 1, unique, asked, flops=22.0 * labels * pixels, issues=[issue])


def one_phase(name: str, costs: list[Cost]) -> Phase:
    return Phase(name, 1, sum(cost.unique for cost in costs), costs)
