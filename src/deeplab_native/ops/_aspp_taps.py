"""The ops behind `aspp`, on checked tensors: the product and the sum over taps.

`aspp_taps` is out[b, o, y, x] = bias[o] + sum over t, c of taps[t, o, c] input[b, c, y + dy_t,
x + dx_t], zero outside the map; taps (`_aspp_pack`) may have more rows than there are filters,
which must be zero. It takes Y = taps times input first, then gathers (csrc/ops/aspp.h has the
layouts of Y); backwards, the gradient is spread to every tap and multiplied with the taps and with
the input. Both are linear in input and in taps, hence the second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import torch

from .._native import define_op, memory_format
from ._aspp_pack import call_kernel, padded_filters, with_rows
from .atrous_im2col import sum_dtype

# Of Y, where one image needs no more: images go through in groups.
PRODUCT_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}

Grads = tuple[torch.Tensor, torch.Tensor]


class _Product:
    """Y of a group of images: its layout, its memory, and the kernels between it and a map."""

    def __init__(
        self, input: torch.Tensor, taps: torch.Tensor, offsets: Sequence[int], filters: int
    ) -> None:
        self.offsets = list(zip(offsets[::2], offsets[1::2], strict=True))
        self.layout = memory_format(input)
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


def taps_forward(
    input: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    offsets: Sequence[int],
    filters: int,
) -> torch.Tensor:
    """`aspp_taps`, without its derivative."""
    product = _Product(input, taps, offsets, filters)
    out = new_out(input, filters)
    input = input.contiguous(memory_format=product.layout)
    bias = None if bias is None else bias.contiguous()
    with torch.autocast(input.device.type, enabled=False):  # `aspp` has cast already
        for images, y in product.groups():
            x = product.as_matrix(input[images])
            if product.channels_last:
                torch.mm(x, product.matrix.t(), out=y)
            else:
                torch.bmm(product.matrix.expand(x.shape[0], -1, -1), x, out=y)
            product.gather(y, bias, out[images])
    return out


def _forward_fake(
    input: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    offsets: Sequence[int],
    filters: int,
) -> torch.Tensor:
    return new_out(input, filters)


def _backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    taps: torch.Tensor,
    offsets: Sequence[int],
    mask: Sequence[bool],
) -> Grads:
    """The needed gradients; sums over images are float32 for the 2-byte types."""
    product = _Product(input, taps, offsets, grad.shape[1])
    layout = product.layout
    grad, input = (t.contiguous(memory_format=layout) for t in (grad, input))
    # two tensors where neither is needed: the outputs of an op must not share memory
    grad_input, grad_taps = input.new_empty(0), input.new_empty(0)
    if mask[0]:
        grad_input = torch.empty_like(input, memory_format=layout)
    if mask[1]:
        grad_taps = torch.zeros_like(product.matrix, dtype=sum_dtype(taps.dtype))
    with torch.autocast(input.device.type, enabled=False):
        for images, y in product.groups():
            product.spread(grad[images], y)
            if mask[0]:
                _input_gradient(product, y, product.as_matrix(grad_input[images]))
            if mask[1]:
                _add_taps_gradient(product, y, product.as_matrix(input[images]), grad_taps)
    if mask[1]:
        rows = grad_taps.to(taps.dtype).view(taps.shape[0], product.padded, -1)
        grad_taps = with_rows(rows, taps.shape[1])
    return grad_input, grad_taps


def _input_gradient(product: _Product, y: torch.Tensor, out: torch.Tensor) -> None:
    if product.channels_last:
        torch.mm(y, product.matrix, out=out)
    else:
        torch.bmm(product.matrix.t().expand(y.shape[0], -1, -1), y, out=out)


def _add_taps_gradient(
    product: _Product, y: torch.Tensor, x: torch.Tensor, sums: torch.Tensor
) -> None:
    pieces = [(y.t(), x)] if product.channels_last else zip(y, x.transpose(1, 2), strict=True)
    for left, right in pieces:
        if sums.dtype == left.dtype:
            sums.addmm_(left, right)
        else:
            sums += torch.mm(left, right)


def _backward_fake(
    grad: torch.Tensor,
    input: torch.Tensor,
    taps: torch.Tensor,
    offsets: Sequence[int],
    mask: Sequence[bool],
) -> Grads:
    return (
        torch.empty_like(input, memory_format=memory_format(input))
        if mask[0]
        else input.new_empty(0),
        taps.new_empty(taps.shape) if mask[1] else input.new_empty(0),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, taps, bias, ctx.offsets, _ = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(input, taps)


def _gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    need_input, need_taps, need_bias = ctx.needs_input_grad[:3]
    for_input = for_taps = for_bias = None
    if need_input or need_taps:
        mask = [need_input, need_taps]
        grads = taps_backward(grad, *ctx.saved_tensors, ctx.offsets, mask)
        for_input, for_taps = (g if need else None for g, need in zip(grads, mask, strict=True))
    if need_bias:
        for_bias = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
    return for_input, for_taps, for_bias, None, None


def _save_for_second_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, input, taps, ctx.offsets, ctx.mask = inputs
    ctx.save_for_backward(grad, input, taps)


def _second_gradient(ctx: Any, to_input: torch.Tensor, to_taps: torch.Tensor) -> tuple[Any, ...]:
    grad, input, taps = ctx.saved_tensors
    need_grad, need_input, need_taps = ctx.needs_input_grad[:3]
    has_input, has_taps = ctx.mask
    for_grad = for_input = for_taps = None
    if need_grad:
        for_grad = torch.zeros_like(grad)
        if has_input:
            for_grad = for_grad + aspp_taps(to_input, taps, None, ctx.offsets, grad.shape[1])
        if has_taps:
            for_grad = for_grad + aspp_taps(input, to_taps, None, ctx.offsets, grad.shape[1])
    if need_input and has_taps:
        for_input = taps_backward(grad, input, to_taps, ctx.offsets, [True, False])[0]
    if need_taps and has_input:
        for_taps = taps_backward(grad, to_input, taps, ctx.offsets, [False, True])[1]
    return for_grad, for_input, for_taps, None, None


aspp_taps = define_op(
    "aspp_taps(Tensor input, Tensor taps, Tensor? bias, int[] offsets, int filters) -> Tensor",
    cpu=taps_forward,
    cuda=taps_forward,
    fake=_forward_fake,
    backward=_gradient,
    setup_context=_save_for_backward,
)
taps_backward = define_op(
    "aspp_taps_backward(Tensor grad, Tensor input, Tensor taps, int[] offsets, bool[2] mask)"
    " -> (Tensor, Tensor)",
    cpu=_backward,
    cuda=_backward,
    fake=_backward_fake,
    backward=_second_gradient,
    setup_context=_save_for_second_backward,
)
