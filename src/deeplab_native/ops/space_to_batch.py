"""Space-to-batch: an atrous convolution as a standard one on every rate-th pixel.

Source: Chen et al. 2017 (DeepLab, TPAMI), section 3.1, the second implementation: "subsample the
input feature map by a factor equal to the atrous convolution rate r, deinterlacing it to produce
r² reduced resolution maps, one for each of the r × r possible shifts".
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .. import _C
from .._autograd import linear
from .._batching import over_batch
from .._integers import pair
from .._native import call_cuda, check_tensor, define_op, memory_format, num_threads, on_cuda

Pair = tuple[int, int]
_USUAL_PADDING = 1 << 20  # below it, nothing is asked of shapes that torch.compile leaves open
_MOST_NUMBERS = (1 << 63) - 1


def space_to_batch(
    input: torch.Tensor, rate: int | Sequence[int], padding: int | Sequence[int] = 0
) -> torch.Tensor:
    """Deals the pixels of every map out to rate_h * rate_w smaller maps.

    Args:
        input: (B, C, H, W), any dtype, on the CPU or a CUDA device.
        rate: at least 1, one integer or (vertical, horizontal).
        padding: zeros on either side of the map, fused into the move; one integer or two.

    Returns:
        (B * rate_h * rate_w, C, ceil((H + 2 pad_h) / rate_h), ceil((W + 2 pad_w) / rate_w)), the
        dtype of input, channels_last where the input is. Map `(b * rate_h + p) * rate_w + q` holds
        the padded pixels (y * rate_h + p, x * rate_w + q) of map b, zero beyond the border. Numbers
        are copied, also NaN, infinities and denormal ones.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: input not four-dimensional; rate below 1; padding below 0, or so much that
            torch cannot count the result's numbers.

    Source: Chen et al. 2017, section 3.1. Differentiable; the gradient is `batch_to_space`.
    """
    check_tensor("input", input, ndim=4, layout="(B, C, H, W)")
    rates, paddings = pair("rate", rate, least=1), pair("padding", padding, least=0)
    if max(paddings) > _USUAL_PADDING:
        # torch makes an empty tensor of any size, with strides that do not fit their integers
        size = _block_size(input.shape[2:], rates, paddings)
        maps = max(1, input.shape[0] * input.shape[1]) * math.prod(rates)
        if maps * math.prod(size) > _MOST_NUMBERS:
            raise ValueError(f"padding: {paddings} makes maps of {size[0]} x {size[1]} pixels")
    return _space_to_batch_op(input, rates, paddings)


def batch_to_space(
    blocks: torch.Tensor,
    rate: int | Sequence[int],
    size: Sequence[int],
    padding: int | Sequence[int] = 0,
) -> torch.Tensor:
    """Puts the maps of `space_to_batch` together again.

    Args:
        blocks: (B * rate_h * rate_w, C, h, w), any dtype, on the CPU or a CUDA device.
        rate: at least 1, one integer or (vertical, horizontal).
        size: (H, W) of the result, before padding.
        padding: of the `space_to_batch` that made the blocks; what lies in it is dropped.

    Returns:
        (B, C, H, W), the dtype of blocks, channels_last where the blocks are.

    Raises:
        TypeError: an argument of the wrong type.
        ValueError: blocks not four-dimensional, their number not a multiple of rate_h * rate_w, or
            their (h, w) not ceil((size + 2 padding) / rate); rate below 1; size or padding below 0.

    Source: Chen et al. 2017, section 3.1. Differentiable; the gradient is `space_to_batch`.
    """
    check_tensor("blocks", blocks, ndim=4, layout="(B * rate_h * rate_w, C, h, w)")
    return _batch_to_space_op(
        blocks,
        pair("rate", rate, least=1),
        pair("size", size, least=0),
        pair("padding", padding, least=0),
    )


def _block_size(size: Sequence[int], rate: Pair, padding: Pair) -> Pair:
    height, width = (-(-(n + 2 * p) // r) for n, r, p in zip(size, rate, padding, strict=True))
    return height, width


def _new_blocks(input: torch.Tensor, rate: Pair, padding: Pair) -> torch.Tensor:
    batch, channels, *size = input.shape
    return torch.empty(
        (batch * rate[0] * rate[1], channels, *_block_size(size, rate, padding)),
        dtype=input.dtype,
        device=input.device,
        memory_format=memory_format(input),
    )


def _new_map(blocks: torch.Tensor, rate: Pair, size: Pair, padding: Pair) -> torch.Tensor:
    if blocks.shape[0] % (rate[0] * rate[1]):
        raise ValueError(
            f"blocks: expected a multiple of rate {rate[0]} x {rate[1]} = {rate[0] * rate[1]} "
            f"maps, got {blocks.shape[0]}"
        )
    expected = _block_size(size, rate, padding)
    if tuple(blocks.shape[2:]) != expected:
        raise ValueError(
            f"blocks: expected height and width {expected} for size {size}, rate {rate} and "
            f"padding {padding}, got {tuple(blocks.shape[2:])}"
        )
    return torch.empty(
        (blocks.shape[0] // (rate[0] * rate[1]), blocks.shape[1], *size),
        dtype=blocks.dtype,
        device=blocks.device,
        memory_format=memory_format(blocks),
    )


def _move(
    name: str, source: torch.Tensor, out: torch.Tensor, map: torch.Tensor, *args: Any
) -> None:
    """Calls the kernel of the device; args: rate, padding, size of a block."""
    layout = memory_format(source)
    channels_last = layout == torch.channels_last
    source = source.contiguous(memory_format=layout)
    where = source.data_ptr(), out.data_ptr(), tuple(map.shape), *args
    how = source.element_size(), channels_last
    if on_cuda(source):
        call_cuda(f"{name}_cuda", source, *where, *how)
    else:
        getattr(_C, f"{name}_cpu")(*where, *how, num_threads())


def _space_to_batch(input: torch.Tensor, rate: Pair, padding: Pair) -> torch.Tensor:
    blocks = _new_blocks(input, rate, padding)
    _move("space_to_batch", input, blocks, input, rate, padding, tuple(blocks.shape[2:]))
    return blocks


def _batch_to_space(blocks: torch.Tensor, rate: Pair, size: Pair, padding: Pair) -> torch.Tensor:
    map = _new_map(blocks, rate, size, padding)
    _move("batch_to_space", blocks, map, map, rate, padding, tuple(blocks.shape[2:]))
    return map


def _save_for_batch_to_space(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, ctx.rate, ctx.padding = inputs
    ctx.size = input.shape[2:]


def _space_to_batch_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return _batch_to_space_op(grad, ctx.rate, ctx.size, ctx.padding), None, None


def _save_for_space_to_batch(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    _, ctx.rate, _, ctx.padding = inputs


def _batch_to_space_backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return _space_to_batch_op(grad, ctx.rate, ctx.padding), None, None, None


_space_to_batch_op = define_op(
    "space_to_batch(Tensor input, int[2] rate, int[2] padding) -> Tensor",
    cpu=_space_to_batch,
    cuda=_space_to_batch,
    fake=_new_blocks,
    vmap=over_batch(0),
    tangents=linear,
    backward=_space_to_batch_backward,
    setup_context=_save_for_batch_to_space,
)
_batch_to_space_op = define_op(
    "batch_to_space(Tensor blocks, int[2] rate, SymInt[2] size, int[2] padding) -> Tensor",
    cpu=_batch_to_space,
    cuda=_batch_to_space,
    fake=_new_map,
    vmap=over_batch(0),
    tangents=linear,
    backward=_batch_to_space_backward,
    setup_context=_save_for_space_to_batch,
)
