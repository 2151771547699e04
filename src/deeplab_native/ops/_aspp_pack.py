"""The matrix of all filter taps of the head, from the branches' weights, and back.

Both are linear: each is the other's derivative.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F

from .. import _C, _variants
from .._autograd import linear
from .._native import (
    call_cuda,
    define_op,
    memory_format,
    num_threads,
    on_cuda,
    products_use_tf32,
)
from ._aspp_offsets import Taps, split_index
from ._aspp_transforms import tangents_of_pack, vmap_pack, vmap_unpack
from .atrous_im2col import FLOATS, sum_dtype

WORD_BYTES = 16  # the CUDA kernels read and write channels_last taps in words of this size
NAMES = {dtype: str(dtype).removeprefix("torch.") for dtype in FLOATS}  # for the kernels

_Group = list[tuple[torch.Tensor, Sequence[int]]]


def call_kernel(name: str, tensor: torch.Tensor, *args: Any) -> None:
    """The kernel of the tensor's device, which gets the tensor's dtype by name."""
    args = *args, NAMES[tensor.dtype]
    if on_cuda(tensor):
        call_cuda(f"{name}_cuda", tensor, *args)
    else:
        getattr(_C, f"{name}_cpu")(*args, num_threads())


def on_tensor_cores(dtype: torch.dtype) -> bool:
    """Whether CUDA multiplies matrices of this dtype there: they are to be aligned then."""
    return dtype.itemsize == 2 or (dtype == torch.float32 and products_use_tf32())


def product_layout(input: torch.Tensor) -> torch.memory_format:
    """The layout in which an input is multiplied: its own, but where only the other is aligned.

    Tensor cores want rows of whole words: bfloat16 maps of 41 x 41 pixels were measured to take
    four times as long contiguous as channels_last (H200, 8 of them: 0.43 and 0.10 ms), which is
    more than it takes to transpose them.
    """
    layout = memory_format(input)
    if layout == torch.channels_last or not on_cuda(input) or not on_tensor_cores(input.dtype):
        return layout
    _, channels, height, width = input.shape
    items = WORD_BYTES // input.dtype.itemsize
    turned = height * width % items != 0 and channels % items == 0
    return torch.channels_last if turned else layout


def padded_filters(input: torch.Tensor, filters: int, dtype: torch.dtype) -> int:
    """The rows of a tap in its matrix, for an input that is multiplied in this dtype."""
    if not on_cuda(input) or product_layout(input) != torch.channels_last:
        return filters
    # of 21 filters in float32 an eighth of the product would be of zeros
    if not on_tensor_cores(dtype) and _variants.chosen("aspp_float_taps") == "dense":
        return filters
    items = WORD_BYTES // dtype.itemsize
    return -(-filters // items) * items


def with_rows(taps: torch.Tensor, rows: int) -> torch.Tensor:
    """The matrix with so many rows for each tap: zeros more, or the last ones less."""
    more = rows - taps.shape[1]
    return taps if more == 0 else F.pad(taps, (0, 0, 0, more))


def pack(
    weights: list[torch.Tensor], index: Sequence[int], taps: int, padded: int, dtype: torch.dtype
) -> torch.Tensor:
    """(taps, padded, C): each row the sum of the filter taps that belong to it, or 0."""
    index_of = list(split_index(index, [weight.shape[2:] for weight in weights]))
    sums = sum_dtype(weights[0].dtype)
    if len({weight.dtype for weight in weights}) > 1:
        weights = [weight.to(sums) for weight in weights]
    weights = [weight.contiguous() for weight in weights]
    if on_cuda(weights[0]):
        groups = list(_pack_groups(weights, index_of))
        if len(groups) == 1:
            return _pack_group(groups[0], taps, padded, dtype)
        parts = [_pack_group(group, taps, padded, sums) for group in groups]
        return reduce(torch.add, parts).to(dtype)
    filters, channels = weights[0].shape[:2]
    whole = set(index) >= set(range(taps))  # of the second derivative some rows are zero
    packed = (torch.empty if whole else torch.zeros)((taps, filters, channels), dtype=sums)
    seen: set[int] = set()
    for weight, rows in zip(weights, index_of, strict=True):
        where = weight.data_ptr(), packed.data_ptr(), (filters, channels)
        call_kernel("aspp_pack", weight, *where, rows, [row in seen for row in rows])
        seen.update(rows)
    return with_rows(packed.to(dtype), padded)


def _pack_groups(
    weights: list[torch.Tensor], index_of: Sequence[Sequence[int]]
) -> Iterator[_Group]:
    """The branches that one launch packs, one at least."""
    most_branches, most_sources = _C.most_packed_cuda()
    group: _Group = []
    sources = 0
    for weight, rows in zip(weights, index_of, strict=True):
        own = sum(row >= 0 for row in rows)
        full = len(group) == most_branches or sources + own > most_sources
        if group and full:
            yield group
            group, sources = [], 0
        group.append((weight, rows))
        sources += own
    yield group


def _pack_group(group: _Group, taps: int, padded: int, dtype: torch.dtype) -> torch.Tensor:
    like = group[0][0]
    filters, channels = like.shape[:2]
    packed = like.new_empty((taps, padded, channels), dtype=dtype)
    weights = [(weight.data_ptr(), rows) for weight, rows in group]
    size = taps, filters, padded, channels
    names = NAMES[like.dtype], NAMES[dtype]
    call_cuda("aspp_pack_cuda", like, weights, [], packed.data_ptr(), 0, size, *names)
    return packed


def pack_with_biases(
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    taps: Taps,
    padded: int,
    dtype: torch.dtype,
) -> tuple[torch.Tensor, int] | None:
    """(C, T * padded) for a product and the address of the biases' sums, 0 without, in one launch.

    On CUDA only; the sums lie behind the matrix, in its memory. None where several launches are
    needed, or tensors to be converted.
    """
    like = weights[0]
    most_branches, most_sources = _C.most_packed_cuda()
    if taps.sources > most_sources or max(len(weights), len(biases)) > most_branches:
        return None
    if len({tensor.dtype for tensor in (*weights, *biases)}) > 1:
        return None
    filters, channels = like.shape[:2]
    rows = len(taps.pairs) * padded
    first = -(-rows * channels // WORD_BYTES) * WORD_BYTES  # of the sums, aligned in any dtype
    memory = like.new_empty(first + 2 * filters if biases else first, dtype=dtype)
    address = memory.data_ptr()
    bias = address + first * dtype.itemsize if biases else 0
    weights = [weight.contiguous() for weight in weights]
    biases = [bias.contiguous() for bias in biases]
    call_cuda(
        "aspp_pack_cuda",
        like,
        [(w.data_ptr(), own) for w, own in zip(weights, taps.of_branch, strict=True)],
        [b.data_ptr() for b in biases],
        address,
        bias,
        (len(taps.pairs), filters, padded, channels),
        NAMES[like.dtype],
        NAMES[dtype],
    )
    return memory.as_strided((channels, rows), (1, channels)), bias


def _pack_fake(
    weights: list[torch.Tensor], index: Sequence[int], taps: int, padded: int, dtype: torch.dtype
) -> torch.Tensor:
    return weights[0].new_empty((taps, padded, weights[0].shape[1]), dtype=dtype)


def _save_for_unpack(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    weights, ctx.index, *_ = inputs
    ctx.filters = weights[0].shape[0]
    ctx.like = [(tuple(weight.shape[2:]), weight.dtype) for weight in weights]


def _pack_gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    rows = split_index(ctx.index, [kernel for kernel, _ in ctx.like])
    grads = [
        unpack_taps(grad, ctx.filters, kernel, index).to(dtype)
        for (kernel, dtype), index in zip(ctx.like, rows, strict=True)
    ]
    return grads, None, None, None, None


def _unpack(
    packed: torch.Tensor, filters: int, kernel: Sequence[int], index: Sequence[int]
) -> torch.Tensor:
    packed = packed[:, :filters].contiguous()
    weight = _unpack_fake(packed, filters, kernel, index)
    where = packed.data_ptr(), weight.data_ptr(), tuple(packed.shape[1:])
    call_kernel("aspp_unpack", packed, *where, list(index))
    return weight


def _unpack_fake(
    packed: torch.Tensor, filters: int, kernel: Sequence[int], index: Sequence[int]
) -> torch.Tensor:
    return packed.new_empty((filters, packed.shape[2], *kernel))


def _save_for_pack(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    packed, _, _, ctx.index = inputs
    ctx.taps, ctx.padded, _ = packed.shape
    ctx.dtype = packed.dtype


def _unpack_gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    return pack_taps([grad], ctx.index, ctx.taps, ctx.padded, ctx.dtype), None, None, None


pack_taps = define_op(
    "aspp_pack(Tensor[] weights, int[] index, int taps, int padded, ScalarType dtype) -> Tensor",
    cpu=pack,
    cuda=pack,
    fake=_pack_fake,
    vmap=vmap_pack,
    tangents=tangents_of_pack,
    backward=_pack_gradient,
    setup_context=_save_for_unpack,
)
unpack_taps = define_op(
    "aspp_unpack(Tensor packed, int filters, int[2] kernel, int[] index) -> Tensor",
    cpu=_unpack,
    cuda=_unpack,
    fake=_unpack_fake,
    vmap=vmap_unpack,
    tangents=linear,
    backward=_unpack_gradient,
    setup_context=_save_for_pack,
)
