"""The product of the head's taps with an input, and the kernels between it and a map.

csrc/ops/aspp.h has the layouts of Y, the product. On CUDA its layout may differ from that of the
input and of the result, see `product_layout`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import nullcontext

import torch

from .. import _variants
from .._native import autocasts, call_cuda, memory_format, on_cuda
from ._aspp_pack import NAMES, call_kernel, padded_filters, product_layout, with_rows

# Of Y, where one image needs no more: images go through in groups.
PRODUCT_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}


Bands = Sequence[tuple[int, int, int, int]]  # of `bands_of`


class Product:
    """Y of a group of images: its layout, its memory, and the kernels between it and a map."""

    def __init__(
        self, input: torch.Tensor, taps: torch.Tensor, offsets: Sequence[int], filters: int
    ) -> None:
        self.offsets = list(zip(offsets[::2], offsets[1::2], strict=True))
        self.layout = product_layout(input)
        self.channels_last = self.layout == torch.channels_last
        self.filters, self.padded = filters, padded_filters(input, filters, input.dtype)
        self.batch, self.size = input.shape[0], tuple(input.shape[2:])
        self.pixels = math.prod(self.size)
        # (T * padded, C); other rows come where a gradient has another layout than the input
        self.matrix = with_rows(taps, self.padded).contiguous().view(-1, taps.shape[2])
        image = self.matrix.shape[0] * self.pixels
        most = PRODUCT_BYTES[input.device.type] // (image * input.element_size())
        self.images = max(1, min(self.batch, most))
        self._memory = input.new_empty(self.images * image)

    def groups(self) -> Iterator[tuple[slice, torch.Tensor]]:
        """(images, their Y): (n, T * O, pixels), or of channels_last (n * pixels, T * padded)."""
        rows = self.matrix.shape[0]
        for first in range(0, self.batch, self.images):
            count = min(self.images, self.batch - first)
            y = self._memory[: count * rows * self.pixels]
            shape = (-1, rows) if self.channels_last else (count, rows, self.pixels)
            yield slice(first, first + count), y.view(shape)

    def as_matrix(self, map: torch.Tensor) -> torch.Tensor:
        """A map in this layout as (n, C, pixels), or of channels_last (n * pixels, C)."""
        if self.channels_last:
            return map.permute(0, 2, 3, 1).reshape(-1, map.shape[1])
        return map.reshape(map.shape[0], map.shape[1], -1)

    def gather(self, y: torch.Tensor, bias: torch.Tensor | None, out: torch.Tensor) -> None:
        """Y to a map on the CPU; CUDA takes `product_on_cuda`."""
        where = y.data_ptr(), 0 if bias is None else bias.data_ptr(), out.data_ptr()
        call_kernel("aspp_gather", y, *where, *self._geometry(out))

    def spread(self, map: torch.Tensor, y: torch.Tensor) -> None:
        call_kernel("aspp_spread", y, map.data_ptr(), y.data_ptr(), *self._geometry(map))

    def _geometry(
        self, map: torch.Tensor
    ) -> tuple[tuple[int, ...], int, list[tuple[int, int]], bool]:
        return tuple(map.shape), self.padded, self.offsets, self.channels_last


def new_out(input: torch.Tensor, filters: int) -> torch.Tensor:
    """(B, filters, H, W) in the layout of input, uninitialised."""
    shape, layout = (input.shape[0], filters, *input.shape[2:]), memory_format(input)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout)


def product_on_cuda(
    input: torch.Tensor,
    matrix: torch.Tensor,
    bias: int,
    pairs: Sequence[tuple[int, int]],
    filters: int,
    padded: int,
    bands: Bands | None = None,
) -> torch.Tensor:
    """`aspp_taps` by the CUDA kernels; matrix (C, T * padded), the address of the bias's sums or 0.

    bands: a product for each, see `bands_of`; what no tap reads stays as the memory was.
    What it takes is host time between few launches: it makes no tensor that it does not need.
    """
    batch, _, height, width = input.shape
    layout = memory_format(input)
    turned = product_layout(input) != layout
    out = torch.empty(
        (batch, filters, height, width),
        dtype=input.dtype,
        device=input.device,
        memory_format=layout,
    )
    if batch == 0:
        return out
    channels, rows = matrix.shape
    image = (rows + channels if turned else rows) * height * width * input.element_size()
    images = max(1, PRODUCT_BYTES[input.device.type] // image)
    if not turned:
        input = input.contiguous(memory_format=layout)
    no_cast = autocasts(input.device.type)  # `aspp` has cast already
    with torch.autocast(input.device.type, enabled=False) if no_cast else nullcontext():
        for first in range(0, batch, images):
            x, part = input, out
            if images < batch:
                x, part = input[first : first + images], out[first : first + images]
            _product_of_images(x, matrix, bias, part, pairs, padded, bands, layout, turned)
    return out


def _product_of_images(
    x: torch.Tensor,
    matrix: torch.Tensor,
    bias: int,
    out: torch.Tensor,
    pairs: Sequence[tuple[int, int]],
    padded: int,
    bands: Bands | None,
    layout: torch.memory_format,
    turned: bool,
) -> None:
    count, channels, height, width = x.shape
    last = layout == torch.channels_last
    if bands is not None and not turned:
        y = _product_by_bands(x, matrix, padded, bands, last)
    elif last or turned:
        size = count * height * width, channels
        pixels = x.as_strided(size, (channels, 1)) if last else as_pixels(x).view(size)
        y = torch.mm(pixels, matrix)
    else:
        planes = x.view(count, channels, height * width)
        y = torch.bmm(matrix.t().expand(count, -1, -1), planes)
    call_cuda(
        "aspp_gather_cuda",
        y,
        y.data_ptr(),
        bias,
        out.data_ptr(),
        (count, out.shape[1], height, width),
        padded,
        pairs,
        last or turned,
        last,
        NAMES[y.dtype],
    )


def _product_by_bands(
    x: torch.Tensor, matrix: torch.Tensor, padded: int, bands: Bands, last: bool
) -> torch.Tensor:
    """Y of x (n, C, H, W), its rows times the taps that read them."""
    count, channels, height, width = x.shape
    pixels, rows = height * width, matrix.shape[1]
    if last:
        x = x.as_strided((count, pixels, channels), (pixels * channels, channels, 1))
        y = x.new_empty((count, pixels, rows))
    else:
        x, y = x.view(count, channels, pixels), x.new_empty((count, rows, pixels))
    for first, end, first_tap, end_tap in bands:
        at, taps = slice(first * width, end * width), slice(first_tap * padded, end_tap * padded)
        of_taps = matrix[:, taps].expand(count, -1, -1)
        if last:
            torch.bmm(x[:, at], of_taps, out=y[:, at, taps])
        else:
            torch.bmm(of_taps.transpose(1, 2), x[:, :, at], out=y[:, taps, at])
    return y


def as_pixels(map: torch.Tensor) -> torch.Tensor:
    """(B, H, W, C) of a map (B, C, H, W), in memory of its own; on CUDA only."""
    batch, channels, height, width = map.shape
    if not map.is_contiguous() or _variants.chosen("aspp_transpose") == "torch":
        return map.permute(0, 2, 3, 1).contiguous()
    pixels = map.new_empty((batch, height, width, channels))
    _transpose(map, pixels, (batch, channels, height * width))
    return pixels


def to_layout(map: torch.Tensor, layout: torch.memory_format) -> torch.Tensor:
    """`contiguous(memory_format=layout)`, by tiles where CUDA wants the other of two layouts."""
    if map.is_contiguous(memory_format=layout):
        return map
    tiles = on_cuda(map) and map.dtype.itemsize <= 4
    if tiles and layout == torch.channels_last and map.is_contiguous():
        return as_pixels(map).permute(0, 3, 1, 2)
    if tiles and map.is_contiguous(memory_format=torch.channels_last):
        batch, channels, height, width = map.shape
        planes = map.new_empty((batch, channels, height, width))
        _transpose(map, planes, (batch, height * width, channels))
        return planes
    return map.contiguous(memory_format=layout)


def _transpose(source: torch.Tensor, target: torch.Tensor, size: tuple[int, int, int]) -> None:
    where = source.data_ptr(), target.data_ptr()
    call_cuda("aspp_transpose_cuda", source, *where, size, NAMES[source.dtype])
