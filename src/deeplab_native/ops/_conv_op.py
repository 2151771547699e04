"""The native algorithms of `atrous_conv2d` as one op, on checked tensors, and its derivatives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from typing import Any

import torch

from .._batching import front, loop, merge, only_shape, split
from .._native import define_op, memory_format
from . import _conv_algorithms as algorithms
from ._conv_checks import check_native
from .atrous_im2col import output_size


def _forward(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
    algorithm: str,
) -> torch.Tensor:
    check_native(algorithm, stride, input)
    run: Callable[..., torch.Tensor] = getattr(algorithms, f"{algorithm}_forward")
    with torch.autocast(input.device.type, enabled=False):  # the public function has cast already
        return run(input, weight, bias, tuple(stride), tuple(padding), tuple(rate))


def _forward_fake(
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
    algorithm: str,
) -> torch.Tensor:
    check_native(algorithm, stride, input)
    size = output_size(input.shape, tuple(weight.shape[2:]), stride, padding, rate)
    return torch.empty(
        (input.shape[0], weight.shape[0], *size),
        dtype=input.dtype,
        device=input.device,
        memory_format=memory_format(input),
    )


def _backward(
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
    algorithm: str,
    mask: Sequence[bool],
) -> algorithms.Grads:
    check_native(algorithm, stride, input)
    run: Callable[..., algorithms.Grads] = getattr(algorithms, f"{algorithm}_backward")
    with torch.autocast(input.device.type, enabled=False):
        return run(grad, input, weight, tuple(stride), tuple(padding), tuple(rate), mask)


def _backward_fake(
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    stride: Sequence[int],
    padding: Sequence[int],
    rate: Sequence[int],
    algorithm: str,
    mask: Sequence[bool],
) -> algorithms.Grads:
    check_native(algorithm, stride, input)
    layout = memory_format(input)
    return (
        torch.empty_like(input, memory_format=layout) if mask[0] else input.new_empty(0),
        torch.empty_like(weight, memory_format=torch.contiguous_format)
        if mask[1]
        else input.new_empty(0),
        grad.new_empty(grad.shape[1] if mask[2] else 0),
    )


def _save_for_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    input, weight, _, *ctx.how = inputs
    ctx.save_for_backward(input, weight)


def _gradient(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    mask = list(ctx.needs_input_grad[:3])
    grads = convolve_backward(grad, *ctx.saved_tensors, *ctx.how, mask)
    needed = (g if need else None for g, need in zip(grads, mask, strict=True))
    return *needed, None, None, None, None


def _save_for_second_backward(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    grad, input, weight, *ctx.how, ctx.mask = inputs
    ctx.save_for_backward(grad, input, weight)


def _second_gradient(
    ctx: Any, to_input: torch.Tensor, to_weight: torch.Tensor, to_bias: torch.Tensor
) -> tuple[Any, ...]:
    """The backward pass is linear in grad, input and weight: its own gradients are convolutions."""
    grad, input, weight = ctx.saved_tensors
    need_grad, need_input, need_weight = ctx.needs_input_grad[:3]
    has_input, has_weight, has_bias = ctx.mask
    for_grad = for_input = for_weight = None
    if need_grad:
        for_grad = torch.zeros_like(grad)
        if has_input:
            for_grad = for_grad + convolve(to_input, weight, None, *ctx.how)
        if has_weight:
            for_grad = for_grad + convolve(input, to_weight, None, *ctx.how)
        if has_bias:
            for_grad = for_grad + to_bias[:, None, None]
    if need_input and has_weight:
        only_input = [True, False, False]
        for_input = convolve_backward(grad, input, to_weight, *ctx.how, only_input)[0]
    if need_weight and has_input:
        only_weight = [False, True, False]
        for_weight = convolve_backward(grad, to_input, weight, *ctx.how, only_weight)[1]
    return for_grad, for_input, for_weight, None, None, None, None, None


def _tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    """Forward mode: linear in input, in weight and in bias."""
    input, weight, _, *how = args
    of_input, of_weight, of_bias, *_ = tangents
    parts = []
    if of_input is not None:
        parts.append(op(of_input, weight, None, *how))
    if of_weight is not None:
        parts.append(op(input, of_weight, None, *how))
    if of_bias is not None:
        size = output_size(input.shape, tuple(weight.shape[2:]), *how[:3])
        parts.append(of_bias[:, None, None].expand(input.shape[0], -1, *size))
    total: torch.Tensor = reduce(torch.add, parts)
    return total


def _backward_tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> algorithms.Grads:
    """Forward mode of the backward pass, which is linear in grad, input and weight."""
    grad, input, weight, *how, (has_input, has_weight, has_bias) = args
    of_grad, of_input, of_weight, *_ = tangents
    parts = []
    if of_grad is not None:
        parts.append(op(of_grad, input, weight, *how, [has_input, has_weight, has_bias]))
    if of_input is not None:
        parts.append(op(grad, of_input, weight, *how, [False, has_weight, False]))
    if of_weight is not None:
        parts.append(op(grad, input, of_weight, *how, [has_input, False, False]))
    zeros = [torch.zeros_like(t) for t in (input, weight)]
    zeros.append(grad.new_zeros(grad.shape[1]))
    sums = []
    for i, (needed, zero) in enumerate(zip((has_input, has_weight, has_bias), zeros, strict=True)):
        of_result = [part[i] for part in parts if part[i].numel()]
        sums.append(reduce(torch.add, of_result, zero) if needed else grad.new_empty(0))
    return sums[0], sums[1], sums[2]


def _vmap(
    op: Any,
    size: int,
    dims: Sequence[int | None],
    input: torch.Tensor,
    weight: torch.Tensor,
    bias: torch.Tensor | None,
    *how: Any,
) -> tuple[Any, Any]:
    """Samples of the input are a batch, samples of the filters more filters; both at once: a loop.

    There are no groups in the native algorithms, and one would not be faster: each has a matrix
    product for every image, or for every tile of its output.
    """
    of_input, of_weight, of_bias, *_ = dims
    if of_weight is None and of_bias is None:
        return split(op(merge(input, of_input, size), weight, bias, *how), size), 0
    if of_input is not None:
        return loop(op, size, dims, input, weight, bias, *how)
    filters = merge(weight, of_weight, size)
    biases = None if bias is None else merge(bias, of_bias, size)
    return split(op(input, filters, biases, *how), size, 1), 1


def _vmap_backward(
    op: Any,
    size: int,
    dims: Sequence[int | None],
    grad: torch.Tensor,
    input: torch.Tensor,
    weight: torch.Tensor,
    *rest: Any,
) -> tuple[Any, Any]:
    """The input's gradients are a batch; the weight's are more filters where all share an input.

    A loop where each sample has an input and a gradient of the weight of its own, which is a sum
    over its own images, or a weight whose values count.
    """
    of_grad, of_input, of_weight, *_ = dims
    *how, (has_input, has_weight, has_bias) = rest
    if (has_input and of_weight is not None) or (has_weight and of_input is not None):
        return loop(op, size, dims, grad, input, weight, *rest)
    one = weight if of_weight is None else weight.select(of_weight, 0)  # only its shape counts
    results: list[tuple[torch.Tensor, int | None]] = [(input.new_empty(0), None) for _ in range(3)]
    if has_input:
        shaped = only_shape(input, of_input, size)
        only_input = [True, False, False]
        grads = op(merge(grad, of_grad, size), shaped, one, *how, only_input)
        results[0] = split(grads[0], size), 0
    if has_weight:
        by_filters = front(grad, of_grad, size).movedim(0, 1).flatten(1, 2)  # (B, size * O, h, w)
        filters = only_shape(one, None, size)
        grads = op(by_filters, input, filters, *how, [False, True, False])
        results[1] = split(grads[1], size), 0
    if has_bias:
        results[2] = front(grad, of_grad, size).sum((1, 3, 4)), 0
    return tuple(zip(*results, strict=True))  # type: ignore[return-value]


convolve = define_op(
    "atrous_conv2d(Tensor input, Tensor weight, Tensor? bias, int[2] stride, int[2] padding,"
    " int[2] rate, str algorithm) -> Tensor",
    cpu=_forward,
    cuda=_forward,
    fake=_forward_fake,
    vmap=_vmap,
    tangents=_tangents,
    backward=_gradient,
    setup_context=_save_for_backward,
)
convolve_backward = define_op(
    "atrous_conv2d_backward(Tensor grad, Tensor input, Tensor weight, int[2] stride,"
    " int[2] padding, int[2] rate, str algorithm, bool[3] mask) -> (Tensor, Tensor, Tensor)",
    cpu=_backward,
    cuda=_backward,
    fake=_backward_fake,
    vmap=_vmap_backward,
    tangents=_backward_tangents,
    backward=_second_gradient,
    setup_context=_save_for_second_backward,
)
