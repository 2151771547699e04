"""The algorithms of `atrous_conv2d`, forward and backward, on checked tensors."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence

import torch

from .._native import convolutions_use_tf32, memory_format, on_cuda
from ._atrous_direct import Grads as Grads
from ._atrous_direct import direct_backward as direct_backward
from ._atrous_direct import direct_forward as direct_forward
from ._conv_checks import same_bits_asked
from .atrous_im2col import Pair, Window, add_columns, fill_columns, output_size, sum_dtype
from .space_to_batch import _batch_to_space, _new_blocks, _space_to_batch

COLUMN_BYTES = 64 * 2**20  # of the im2col buffer, in the forward and in the backward pass


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
    blocks = _standard_convolution(_space_to_batch(input, rate, padding), weight, bias)
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
    if not (mask[0] or mask[1]):  # of a layer whose bias alone is trained
        return input.new_empty(0), input.new_empty(0), _bias_gradient(grad, mask)
    grad_blocks = _space_to_batch(grad, rate, (0, 0))
    # without a weight gradient only the shape of the blocks counts
    blocks = (_space_to_batch if mask[1] else _new_blocks)(input, rate, padding)
    # Of torch's on CUDA the same bits come every time only where the whole process is set so.
    by_torch = not on_cuda(input) or same_bits_asked()
    run = _standard_backward if by_torch else _steady_backward
    grad_input, grad_weight = run(grad_blocks, blocks, weight, mask)
    if mask[0]:
        grad_input = _batch_to_space(grad_input, rate, (input.shape[2], input.shape[3]), padding)
        grad_input = grad_input.contiguous(memory_format=memory_format(input))
    return (
        grad_input if mask[0] else input.new_empty(0),
        grad_weight.contiguous() if mask[1] else input.new_empty(0),
        _bias_gradient(grad, mask),
    )


def _standard_convolution(
    blocks: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    transposed: bool = False,
) -> torch.Tensor:
    """Torch's convolution without padding, or its adjoint: with the same bits every time.

    What torch reads from `torch.backends.cudnn.deterministic`, which holds for the whole process,
    `_convolution` takes as an argument. The adjoint is cuDNN's gradient of the input.
    """
    out: torch.Tensor = torch.ops.aten._convolution(
        blocks,
        weight,
        bias,
        stride=(1, 1),
        padding=(0, 0),
        dilation=(1, 1),
        transposed=transposed,
        output_padding=(0, 0),
        groups=1,
        benchmark=torch.backends.cudnn.benchmark,
        deterministic=True,
        cudnn_enabled=torch.backends.cudnn.enabled,
        allow_tf32=convolutions_use_tf32(),
    )
    return out


def _standard_backward(
    grad: torch.Tensor, blocks: torch.Tensor, weight: torch.Tensor, mask: Sequence[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Of blocks and weight, by torch; what the mask leaves out is no tensor."""
    grad_blocks, grad_weight, _ = torch.ops.aten.convolution_backward(
        grad,
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
    return grad_blocks, grad_weight


def _steady_backward(
    grad: torch.Tensor, blocks: torch.Tensor, weight: torch.Tensor, mask: Sequence[bool]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The same, with the same bits every time; an empty tensor for what the mask leaves out."""
    grad_blocks, grad_weight = blocks.new_empty(0), blocks.new_empty(0)
    if mask[0]:
        grad_blocks = _standard_convolution(grad, weight, None, transposed=True)
    if mask[1]:
        grad_weight = _product_by_taps(grad, blocks, weight)
    return grad_blocks, grad_weight


def _product_by_taps(
    grad: torch.Tensor, blocks: torch.Tensor, weight: torch.Tensor
) -> torch.Tensor:
    """The gradient of the weight: for every tap the product (O, pixels) times (pixels, C).

    grad: (N, O, h, w); blocks: (N, C, h + kh - 1, w + kw - 1), the pixels of all N at once.
    """
    filters, channels, *kernel = weight.shape
    height, width = grad.shape[2:]
    last = torch.channels_last  # a pixel is a row of a matrix, and a tap of all of them one copy
    grad, blocks = (t.contiguous(memory_format=last) for t in (grad, blocks))
    factor = grad.permute(1, 0, 2, 3).reshape(filters, -1)
    by_tap = weight.new_empty((*kernel, filters, channels))
    for y, x in itertools.product(*map(range, kernel)):
        pixels = blocks[:, :, y : y + height, x : x + width].permute(0, 2, 3, 1)
        torch.mm(factor, pixels.reshape(-1, channels), out=by_tap[y, x])
    return by_tap.permute(2, 3, 0, 1)


def _bias_gradient(grad: torch.Tensor, mask: Sequence[bool]) -> torch.Tensor:
    return grad.sum((0, 2, 3)) if mask[2] else grad.new_empty(0)
