"""What `torch.vmap` and forward mode do with the ops of the fused head.

Samples of the input are a batch. Samples of the weights, of an input that they share, are more
filters. Where both have samples it is a loop: one product would compute every pair of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F

from .._batching import any_batched, front, loop, merge, only_shape, split

Dims = Sequence[Any]
Result = tuple[Any, Any]


def vmap_branches(
    op: Any,
    size: int,
    dims: Dims,
    input: torch.Tensor,
    weights: list[torch.Tensor],
    biases: list[torch.Tensor],
    rates: list[int],
) -> Result:
    """(B, O, H, W) of each sample."""
    of_input, of_weights, of_biases, _ = dims
    if not any_batched(of_weights) and not any_batched(of_biases):
        return split(op(merge(input, of_input, size), weights, biases, rates), size), 0
    if of_input is not None:
        return loop(op, size, dims, input, weights, biases, rates)
    filters = [merge(w, d, size) for w, d in zip(weights, of_weights, strict=True)]
    of_filters = [merge(b, d, size) for b, d in zip(biases, of_biases, strict=True)]
    return split(op(input, filters, of_filters, rates), size, 1), 1


def vmap_taps(
    op: Any,
    size: int,
    dims: Dims,
    input: torch.Tensor,
    taps: torch.Tensor,
    bias: torch.Tensor | None,
    offsets: Sequence[int],
    filters: int,
) -> Result:
    """(B, filters, H, W) of each sample; taps (T, rows, C), of which the first `filters` count."""
    of_input, of_taps, of_bias, *_ = dims
    if of_taps is None and of_bias is None:
        return split(op(merge(input, of_input, size), taps, bias, offsets, filters), size), 0
    if of_input is not None:
        return loop(op, size, dims, input, taps, bias, offsets, filters)
    rows = _as_rows(taps, of_taps, size, filters)
    biases = None if bias is None else merge(bias, of_bias, size)
    return split(op(input, rows, biases, offsets, size * filters), size, 1), 1


def vmap_taps_backward(
    op: Any,
    size: int,
    dims: Dims,
    grad: torch.Tensor,
    input: torch.Tensor,
    taps: torch.Tensor,
    offsets: Sequence[int],
    mask: Sequence[bool],
) -> Result:
    """As of the convolution: gradients of inputs are a batch, of one input's taps more filters."""
    of_grad, of_input, of_taps, *_ = dims
    has_input, has_taps = mask
    if (has_input and of_taps is not None) or (has_taps and of_input is not None):
        return loop(op, size, dims, grad, input, taps, offsets, mask)
    one = taps if of_taps is None else taps.select(of_taps, 0)  # only its shape counts
    grad_input, grad_taps = input.new_empty(0), input.new_empty(0)
    if has_input:
        shaped = only_shape(input, of_input, size)
        only_input = [True, False]
        grad_input = split(
            op(merge(grad, of_grad, size), shaped, one, offsets, only_input)[0], size
        )
    if has_taps:
        by_filters = front(grad, of_grad, size).movedim(0, 1)  # (B, size, O, H, W)
        by_filters = by_filters.flatten(1, 2)
        shaped = one[:, :1].expand(-1, by_filters.shape[1], -1)
        rows = op(by_filters, input, shaped, offsets, [False, True])[1]
        grad_taps = _padded(rows, size, one.shape[1])
    return (grad_input, grad_taps), (0 if has_input else None, 0 if has_taps else None)


def vmap_pack(
    op: Any,
    size: int,
    dims: Dims,
    weights: list[torch.Tensor],
    index: Sequence[int],
    taps: int,
    padded: int,
    dtype: torch.dtype,
) -> Result:
    """(T, padded, C) of each sample: samples are more filters."""
    merged = [merge(w, d, size) for w, d in zip(weights, dims[0], strict=True)]
    rows = op(merged, index, taps, merged[0].shape[0], dtype)  # (T, size * O, C)
    return _padded(rows, size, padded), 0


def vmap_unpack(
    op: Any,
    size: int,
    dims: Dims,
    packed: torch.Tensor,
    filters: int,
    kernel: Sequence[int],
    index: Sequence[int],
) -> Result:
    """(O, C, kh, kw) of each sample."""
    rows = _as_rows(packed, dims[0], size, filters)
    return split(op(rows, size * filters, kernel, index), size), 0


def _as_rows(taps: torch.Tensor, dim: int | None, size: int, filters: int) -> torch.Tensor:
    """(T, size * filters, C) of the first filters of (T, rows, C) of each sample."""
    return front(taps, dim, size)[:, :, :filters].movedim(0, 1).flatten(1, 2)


def _padded(rows: torch.Tensor, size: int, padded: int) -> torch.Tensor:
    """(size, T, padded, C) of (T, size * filters, C), zeros behind the filters."""
    of_samples = split(rows, size, 1).movedim(1, 0)
    return F.pad(of_samples, (0, 0, 0, padded - of_samples.shape[2]))


def tangents_of_branches(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    """Linear in the input, and in weights and biases together."""
    input, weights, biases, rates = args
    of_input, of_weights, of_biases, _ = tangents
    parts = []
    if of_input is not None:
        parts.append(op(of_input, weights, [], rates))
    if any(t is not None for t in (*of_weights, *of_biases)):
        parts.append(op(input, _or_zero(of_weights, weights), _or_zero(of_biases, biases), rates))
    total: torch.Tensor = reduce(torch.add, parts)
    return total


def tangents_of_taps(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    """Linear in the input, and in taps and bias together."""
    input, taps, _, offsets, filters = args
    of_input, of_taps, of_bias, *_ = tangents
    parts = []
    if of_input is not None:
        parts.append(op(of_input, taps, None, offsets, filters))
    if of_taps is not None or of_bias is not None:
        of_taps = torch.zeros_like(taps) if of_taps is None else of_taps
        parts.append(op(input, of_taps, of_bias, offsets, filters))
    total: torch.Tensor = reduce(torch.add, parts)
    return total


def tangents_of_taps_backward(
    op: Any, args: Sequence[Any], tangents: Sequence[Any]
) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear in the gradient, in the input and in the taps."""
    grad, input, taps, offsets, (has_input, has_taps) = args
    of_grad, of_input, of_taps, *_ = tangents
    grad_input = torch.zeros_like(input) if has_input else input.new_empty(0)
    grad_taps = torch.zeros_like(taps) if has_taps else input.new_empty(0)
    if of_grad is not None:
        parts = op(of_grad, input, taps, offsets, [has_input, has_taps])
        grad_input, grad_taps = grad_input + parts[0], grad_taps + parts[1]
    if of_input is not None and has_taps:
        grad_taps = grad_taps + op(grad, of_input, taps, offsets, [False, True])[1]
    if of_taps is not None and has_input:
        grad_input = grad_input + op(grad, input, of_taps, offsets, [True, False])[0]
    return grad_input, grad_taps


def tangents_of_pack(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    """Linear."""
    packed: torch.Tensor = op(_or_zero(tangents[0], args[0]), *args[1:])
    return packed


def _or_zero(
    tangents: Sequence[torch.Tensor | None], primals: Sequence[torch.Tensor]
) -> list[torch.Tensor]:
    return [
        torch.zeros_like(primal) if tangent is None else tangent
        for tangent, primal in zip(tangents, primals, strict=True)
    ]
