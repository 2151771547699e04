"""The ops behind `aspp`, on checked tensors: the taps' matrix, the product and the sum over taps.

`aspp_taps` is out[b, o, y, x] = bias[o] + sum over t, c of taps[t, o, c] input[b, c, y + dy_t,
x + dx_t], zero outside the map. It takes Y = taps times input first, then gathers (csrc/ops/aspp.h
has the layouts of Y); backwards, the gradient is spread to every tap and multiplied with the
taps and with the input. Both are linear in input and in taps, hence the second derivatives.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F

from .. import _C
from .._native import call_cuda, define_op, memory_format, num_threads, on_cuda
from .atrous_im2col import sum_dtype

# Of Y, where one image needs no more: images go through in groups.
PRODUCT_BYTES = {"cpu": 64 * 2**20, "cuda": 256 * 2**20}
WORD_BYTES = 16  # the CUDA kernels read and write channels_last taps in words of this size

Grads = tuple[torch.Tensor, torch.Tensor]


def _call(name: str, tensor: torch.Tensor, *args) -> None:
    """The kernel of the tensor's device, which gets the tensor's dtype by name."""
    args = *args, str(tensor.dtype).removeprefix("torch.")
    if on_cuda(tensor):
        call_cuda(f"{name}_cuda", tensor, *args)
    else:
        getattr(_C, f"{name}_cpu")(*args, num_threads())


# ---- the matrix of all taps: pack and its adjoint ----
def _pack(weights, index, taps) -> torch.Tensor:
    filters, channels = weights[0].shape[:2]
    seen: set[int] = set()
    whole = set(index) >= set(range(taps))  # of the second derivative some rows are zero
    packed = (torch.empty if whole else torch.zeros)(
        (taps, filters, channels), dtype=sum_dtype(weights[0].dtype), device=weights[0].device
    )
    index_of = split_index(index, [weight.shape[2:] for weight in weights])
    for weight, rows in zip(weights, index_of, strict=True):
        weight = weight.contiguous()
        where = weight.data_ptr(), packed.data_ptr(), (filters, channels)
        _call("aspp_pack", weight, *where, rows, [row in seen for row in rows])
        seen.update(rows)
    return packed


def split_index(index, kernels) -> Iterator[list[int]]:
    """The part of `index` that belongs to each branch's filter taps."""
    start = 0
    for kernel in kernels:
        yield list(index[start : start + kernel[0] * kernel[1]])
        start += kernel[0] * kernel[1]


def _pack_fake(weights, index, taps):
    return weights[0].new_empty((taps, *weights[0].shape[:2]), dtype=sum_dtype(weights[0].dtype))


def _save_for_unpack(ctx, inputs, output) -> None:
    weights, ctx.index, ctx.taps = inputs
    ctx.like = [(tuple(weight.shape[2:]), weight.dtype) for weight in weights]


def _pack_gradient(ctx, grad):
    rows = split_index(ctx.index, [kernel for kernel, _ in ctx.like])
    grads = [
        unpack_taps(grad, kernel, index).to(dtype)
        for (kernel, dtype), index in zip(ctx.like, rows, strict=True)
    ]
    return grads, None, None


def _unpack(packed, kernel, index) -> torch.Tensor:
    packed = packed.contiguous()
    weight = _unpack_fake(packed, kernel, index)
    where = packed.data_ptr(), weight.data_ptr(), tuple(packed.shape[1:])
    _call("aspp_unpack", packed, *where, list(index))
    return weight


def _unpack_fake(packed, kernel, index):
    return packed.new_empty((*packed.shape[1:], *kernel))


def _save_for_pack(ctx, inputs, output) -> None:
    packed, _, ctx.index = inputs
    ctx.taps = packed.shape[0]


def _unpack_gradient(ctx, grad):
    return pack_taps([grad], ctx.index, ctx.taps), None, None


# ---- the product and the sum ----
class _Product:
    """Y of a group of images: its layout, its memory, and the kernels between it and a map."""

    def __init__(self, input: torch.Tensor, taps: torch.Tensor, offsets) -> None:
        self.offsets = list(zip(offsets[::2], offsets[1::2], strict=True))
        self.layout = memory_format(input)
        self.channels_last = self.layout == torch.channels_last
        self.taps, self.filters, self.channels = taps.shape
        self.batch, self.size = input.shape[0], tuple(input.shape[2:])
        self.pixels = math.prod(self.size)
        self.padded = self.filters
        if self.channels_last and on_cuda(input):
            items = WORD_BYTES // input.element_size()
            self.padded = -(-self.filters // items) * items
        # (T * padded, C)
        self.matrix = F.pad(taps, (0, 0, 0, self.padded - self.filters)).view(-1, self.channels)
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
        _call("aspp_gather", y, *where, *self._geometry(out))

    def spread(self, map: torch.Tensor, y: torch.Tensor) -> None:
        _call("aspp_spread", y, map.data_ptr(), y.data_ptr(), *self._geometry(map))

    def _geometry(self, map: torch.Tensor) -> tuple:
        return tuple(map.shape), self.padded, self.offsets, self.channels_last


def new_out(input, filters: int) -> torch.Tensor:
    """(B, filters, H, W) in the layout of input, uninitialised."""
    shape, layout = (input.shape[0], filters, *input.shape[2:]), memory_format(input)
    return torch.empty(shape, dtype=input.dtype, device=input.device, memory_format=layout)


def _forward(input, taps, bias, offsets):
    product = _Product(input, taps.contiguous(), offsets)
    out = new_out(input, taps.shape[1])
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


def _forward_fake(input, taps, bias, offsets):
    return new_out(input, taps.shape[1])


def _backward(grad, input, taps, offsets, mask) -> Grads:
    """The needed gradients; sums over images are float32 for the 2-byte types."""
    product = _Product(input, taps.contiguous(), offsets)
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
        rows = grad_taps.view(product.taps, product.padded, -1)[:, : product.filters]
        grad_taps = rows.to(taps.dtype, memory_format=torch.contiguous_format).contiguous()
    return grad_input, grad_taps


def _input_gradient(product: _Product, y: torch.Tensor, out: torch.Tensor) -> None:
    if product.channels_last:
        torch.mm(y, product.matrix, out=out)
    else:
        torch.bmm(product.matrix.t().expand(y.shape[0], -1, -1), y, out=out)


def _add_taps_gradient(product: _Product, y, x, sums: torch.Tensor) -> None:
    pieces = [(y.t(), x)] if product.channels_last else zip(y, x.transpose(1, 2), strict=True)
    for left, right in pieces:
        if sums.dtype == left.dtype:
            sums.addmm_(left, right)
        else:
            sums += torch.mm(left, right)


def _backward_fake(grad, input, taps, offsets, mask):
    return (
        torch.empty_like(input, memory_format=memory_format(input))
        if mask[0]
        else input.new_empty(0),
        taps.new_empty(taps.shape) if mask[1] else input.new_empty(0),
    )


def _save_for_backward(ctx, inputs, output) -> None:
    input, taps, bias, ctx.offsets = inputs
    ctx.bias_dtype = None if bias is None else bias.dtype
    ctx.save_for_backward(input, taps)


def _gradient(ctx, grad):
    need_input, need_taps, need_bias = ctx.needs_input_grad[:3]
    for_input = for_taps = for_bias = None
    if need_input or need_taps:
        mask = [need_input, need_taps]
        grads = taps_backward(grad, *ctx.saved_tensors, ctx.offsets, mask)
        for_input, for_taps = (g if need else None for g, need in zip(grads, mask, strict=True))
    if need_bias:
        for_bias = grad.sum((0, 2, 3), dtype=ctx.bias_dtype)
    return for_input, for_taps, for_bias, None


def _save_for_second_backward(ctx, inputs, output) -> None:
    grad, input, taps, ctx.offsets, ctx.mask = inputs
    ctx.save_for_backward(grad, input, taps)


def _second_gradient(ctx, to_input, to_taps):
    grad, input, taps = ctx.saved_tensors
    need_grad, need_input, need_taps = ctx.needs_input_grad[:3]
    has_input, has_taps = ctx.mask
    for_grad = for_input = for_taps = None
    if need_grad:
        for_grad = torch.zeros_like(grad)
        if has_input:
            for_grad = for_grad + aspp_taps(to_input, taps, None, ctx.offsets)
        if has_taps:
            for_grad = for_grad + aspp_taps(input, to_taps, None, ctx.offsets)
    if need_input and has_taps:
        for_input = taps_backward(grad, input, to_taps, ctx.offsets, [True, False])[0]
    if need_taps and has_input:
        for_taps = taps_backward(grad, to_input, taps, ctx.offsets, [False, True])[1]
    return for_grad, for_input, for_taps, None, None


pack_taps = define_op(
    "aspp_pack(Tensor[] weights, int[] index, int taps) -> Tensor",
    cpu=_pack,
    cuda=_pack,
    fake=_pack_fake,
    backward=_pack_gradient,
    setup_context=_save_for_unpack,
)
unpack_taps = define_op(
    "aspp_unpack(Tensor packed, int[2] kernel, int[] index) -> Tensor",
    cpu=_unpack,
    cuda=_unpack,
    fake=_unpack_fake,
    backward=_unpack_gradient,
    setup_context=_save_for_pack,
)
aspp_taps = define_op(
    "aspp_taps(Tensor input, Tensor taps, Tensor? bias, int[] offsets) -> Tensor",
    cpu=_forward,
    cuda=_forward,
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
