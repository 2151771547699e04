"""The ops behind `aspp`, on checked tensors: the product and the sum over taps.

`aspp_taps` is out[b, o, y, x] = bias[o] + sum over t, c of taps[t, o, c] input[b, c, y + dy_t,
x + dx_t], zero outside the map; taps (`_aspp_pack`) may have more rows than there are filters,
which must be zero. It takes Y = taps times input first, then gathers (csrc/ops/aspp.h has the
layouts of Y); backwards, the gradient is spread to every tap and multiplied with the taps and with
the input. Both are linear in input and in taps, hence the second derivatives.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._native import define_op, memory_format, on_cuda
from ._aspp_pack import padded_filters, with_rows
from ._aspp_product import Product, new_out, product_on_cuda, to_layout
from ._aspp_transforms import (
    tangents_of_taps,
    tangents_of_taps_backward,
    vmap_taps,
    vmap_taps_backward,
)
from .atrous_im2col import sum_dtype

Grads = tuple[torch.Tensor, torch.Tensor]


def taps_forward(
    input: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    offsets: Sequence[int],
    filters: int,
) -> torch.Tensor:
    """`aspp_taps`, without its derivative."""
    bias = None if bias is None else bias.contiguous()
    if on_cuda(input):
        padded = padded_filters(input, filters, input.dtype)
        matrix = with_rows(taps, padded).contiguous().view(-1, taps.shape[2])
        pairs = list(zip(offsets[::2], offsets[1::2], strict=True))
        where = 0 if bias is None else bias.data_ptr()
        return product_on_cuda(input, matrix.t(), where, pairs, filters, padded)
    product = Product(input, taps, offsets, filters)
    out = new_out(input, filters)
    input = input.contiguous(memory_format=product.layout)
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
    product = Product(input, taps, offsets, grad.shape[1])
    layout, own_layout = product.layout, memory_format(input)
    grad, input = (to_layout(t, layout) for t in (grad, input))
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
    if mask[0]:
        grad_input = to_layout(grad_input, own_layout)
    return grad_input, grad_taps


def _input_gradient(product: Product, y: torch.Tensor, out: torch.Tensor) -> None:
    if product.channels_last:
        torch.mm(y, product.matrix, out=out)
    else:
        torch.bmm(product.matrix.t().expand(y.shape[0], -1, -1), y, out=out)


def _add_taps_gradient(
    product: Product, y: torch.Tensor, x: torch.Tensor, sums: torch.Tensor
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
    vmap=vmap_taps,
    tangents=tangents_of_taps,
    backward=_gradient,
    setup_context=_save_for_backward,
)
taps_backward = define_op(
    "aspp_taps_backward(Tensor grad, Tensor input, Tensor taps, int[] offsets, bool[2] mask)"
    " -> (Tensor, Tensor)",
    cpu=_backward,
    cuda=_backward,
    fake=_backward_fake,
    vmap=vmap_taps_backward,
    tangents=tangents_of_taps_backward,
    backward=_second_gradient,
    setup_context=_save_for_second_backward,
)
