"""The algorithms of `atrous_conv2d`, forward and backward, on checked tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F

from .._native import memory_format
from ._atrous_direct import Grads as Grads
from ._atrous_direct import direct_backward as direct_backward
from ._atrous_direct import direct_forward as direct_forward
from .atrous_im2col import Pair, Window, add_columns, fill_columns, output_size, sum_dtype
from .space_to_batch import _batch_to_space, _new_blocks, _space_to_batch

COLUMN_BYTES = 64 * 2**20  # of the im2col buffer, in the forward and in the backward pass

# The least rate from which a copy to channels_last pays on the CPU, of layers with many filters and
# of few filters in training. `benchmarks/bench_conv.py` says below its table what it should be.
MANY_FILTERS = 128
CHANNELS_LAST_FROM_RATE = {"many": 8, "few": 12}


def in_better_layout(input: torch.Tensor, weight: torch.Tensor, rate: int) -> torch.Tensor:
    """The input for torch's convolution: in channels_last where that is faster.

    rate: the larger one.
    """
    worthwhile = (
        _skips_taps(input, weight, rate)
        if input.is_cpu
        else input.is_cuda and _brings_cudnn_back(input, rate)
    )
    return input.contiguous(memory_format=torch.channels_last) if worthwhile else input


def _skips_taps(input: torch.Tensor, weight: torch.Tensor, rate: int) -> bool:
    """Where oneDNN then skips the taps in the padding and otherwise does not.

    Measured with 2 threads on AVX-512 cores (torch 2.13, one 41 x 41 map, milliseconds as it is /
    with the copy to channels_last): 512 -> 1024 filters rate 4 68 / 72, rate 6 60 / 69, rate 8
    85 / 61, rate 12 91 / 56, rate 18 81 / 47, rate 24 80 / 34; 512 -> 128 rate 12 14 / 8, rate 24
    12 / 5. Up to 64 filters the contiguous kernel skips them too: 512 -> 64 rate 12 3.6 / 4.4; the
    21 classes of ASPP, 2048 -> 21, rate 12 8 / 32. Its backward pass does not: forward and backward
    together, 2048 -> 21, rate 6 30 / 47, rate 12 92 / 53, rate 18 91 / 43.
    """
    many = weight.shape[0] >= MANY_FILTERS
    if rate < CHANNELS_LAST_FROM_RATE["many" if many else "few"] or input.dtype != torch.float32:
        return False
    trains = torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad)
    return (many or trains) and max(weight.shape[2:]) > 1


def _brings_cudnn_back(input: torch.Tensor, rate: int) -> bool:
    """Where torch convolves contiguous maps without cuDNN, but channels_last ones with it.

    Asked for the same bits every time, torch leaves cuDNN out of dilated convolutions of contiguous
    maps and unfolds them, image by image (`use_cudnn` in aten/src/ATen/native/Convolution.cpp;
    https://github.com/pytorch/pytorch/issues/28777 has it 10 to 80 times slower). In float64 cuDNN
    knows no channels_last.
    """
    if rate < 2 or input.dtype == torch.float64:
        return False
    deterministic = (
        torch.backends.cudnn.deterministic or torch.are_deterministic_algorithms_enabled()
    )
    return deterministic and torch.backends.cudnn.enabled


def windows(size: Pair, column_rows: int, element_size: int) -> list[Window]:
    """The output (Ho, Wo) in pieces whose columns, of column_rows elements, fit COLUMN_BYTES.

    Bands of whole rows, all about as high; parts of a row only where a row does not fit. Each is
    one run of pixels in memory order.
    """
    height, width = size
    pixels = max(1, COLUMN_BYTES // (column_rows * element_size))
    if pixels < width:
        return [
            (y, y + 1, x, min(x + pixels, width))
            for y in range(height)
            for x in range(0, width, pixels)
        ]
    bands = -(-height // (pixels // width))
    edges = [height * i // bands for i in range(bands + 1)]
    return [(first, last, 0, width) for first, last in itertools.pairwise(edges)]


def _column_pieces(
    input: torch.Tensor, weight: torch.Tensor, size: Pair
) -> Iterator[tuple[int, Window, slice, torch.Tensor]]:
    """(image, window, its pixels, room for its columns); the room is one buffer, used again."""
    column_rows = input.shape[1] * weight.shape[2] * weight.shape[3]
    pieces = windows(size, column_rows, input.element_size())
    areas = [(last - first) * (end - begin) for first, last, begin, end in pieces]
    buffer = input.new_empty(column_rows * max(areas))
    for image in range(input.shape[0]):
        for window, area in zip(pieces, areas, strict=True):
            start = window[0] * size[1] + window[2]
            columns = buffer[: column_rows * area].view(column_rows, area)
            yield image, window, slice(start, start + area), columns


def _as_matrix(map: torch.Tensor) -> torch.Tensor:
    """(C, H, W), contiguous or channels_last, as (C, H * W) in the same memory."""
    return map.view(map.shape[0], -1)


def im2col_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Pair,
    padding: Pair,
    rate: Pair,
) -> torch.Tensor:
    """Weights (O, C kh kw) times columns (C kh kw, pixels), into the output without a copy."""
    geometry = tuple(weight.shape[2:]), stride, padding, rate
    size = output_size(input.shape, *geometry)
    out = torch.empty(
        (input.shape[0], weight.shape[0], *size),
        dtype=input.dtype,
        device=input.device,
        memory_format=memory_format(input),
    )
    filters = weight.reshape(weight.shape[0], -1)
    for image, window, pixels, columns in _column_pieces(input, weight, size):
        fill_columns(input[image : image + 1], columns, geometry, window)
        target = _as_matrix(out[image])[:, pixels]
        if bias is None:
            torch.mm(filters, columns, out=target)
        else:
            torch.addmm(bias[:, None], filters, columns, out=target)
    return out


def im2col_backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    mask: Sequence[bool],
) -> Grads:
    """The needed gradients, of input and weight in the same pieces as the forward pass.

    Sums over images and pieces are float32 for the 2-byte types.
    """
    geometry = tuple(weight.shape[2:]), stride, padding, rate
    layout, sums = memory_format(input), sum_dtype(input.dtype)
    grad = grad.contiguous(memory_format=memory_format(grad))
    filters = weight.reshape(weight.shape[0], -1)
    # two tensors where neither is needed: the outputs of an op must not share memory
    grad_input, grad_weight = input.new_empty(0), input.new_empty(0)
    if mask[0]:
        grad_input = torch.zeros_like(input, dtype=sums, memory_format=layout)
    if mask[1]:
        grad_weight = torch.zeros_like(filters, dtype=sums)
    size = grad.shape[2], grad.shape[3]
    pieces = _column_pieces(input, weight, size) if mask[0] or mask[1] else ()
    for image, window, pixels, columns in pieces:
        grad_pixels = _as_matrix(grad[image])[:, pixels]
        if mask[1]:
            fill_columns(input[image : image + 1], columns, geometry, window)
            grad_weight += torch.mm(grad_pixels, columns.t())
        if mask[0]:
            torch.mm(filters.t(), grad_pixels, out=columns)
            add_columns(columns, grad_input[image : image + 1], geometry, window)
    if mask[1]:
        grad_weight = grad_weight.view(weight.shape)
    return (
        grad_input.to(input.dtype),
        grad_weight.to(weight.dtype),
        _bias_gradient(grad, mask),
    )


def space_to_batch_forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Pair,
    padding: Pair,
    rate: Pair,
) -> torch.Tensor:
    """The blocks hold the padding already; a block row more than the map's falls off at the end."""
    size = output_size(input.shape, tuple(weight.shape[2:]), stride, padding, rate)
    blocks = F.conv2d(_space_to_batch(input, rate, padding), weight, bias)
    out = _batch_to_space(blocks, rate, size, (0, 0))
    return out.contiguous(memory_format=memory_format(input))


def space_to_batch_backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Pair,
    padding: Pair,
    rate: Pair,
    mask: Sequence[bool],
) -> Grads:
    """The needed gradients, by the backward pass of the standard convolution of the blocks."""
    # without a weight gradient only the shape of the blocks counts
    blocks = (_space_to_batch if mask[1] else _new_blocks)(input, rate, padding)
    grad_input, grad_weight, _ = torch.ops.aten.convolution_backward(
        _space_to_batch(grad, rate, (0, 0)),
        blocks,
        weight,
        None,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        transposed=False,
        output_padding=(0, 0),
        groups=1,
        output_mask=(mask[0], mask[1], False),
    )
    if mask[0]:
        grad_input = _batch_to_space(grad_input, rate, (input.shape[2], input.shape[3]), padding)
        grad_input = grad_input.contiguous(memory_format=memory_format(input))
    return (
        grad_input if mask[0] else input.new_empty(0),
        grad_weight.contiguous() if mask[1] else input.new_empty(0),
        _bias_gradient(grad, mask),
    )


def _bias_gradient(grad: torch.Tensor, mask: Sequence[bool]) -> torch.Tensor:
    return grad.sum((0, 2, 3)) if mask[2] else grad.new_empty(0)
