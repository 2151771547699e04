"""The op of the Gaussian sum and its gradient: csrc/ops/gauss_transform.h."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch

from .. import _C
from .._batching import front, over_batch
from .._native import call_cuda, define_op, num_threads
from ._gauss_derivatives import directional, directional_of_features_gradient


def _run(
    values: torch.Tensor, grad: torch.Tensor | None, features: torch.Tensor, cutoff: float
) -> tuple[torch.Tensor, list[torch.Tensor], list[Any]]:
    """What is returned, the tensors of a native call, and its sizes."""
    values, features = values.contiguous(), features.contiguous()
    out = torch.empty_like(values if grad is None else features)
    tensors = [features, values, *([] if grad is None else [grad.contiguous()]), out]
    far = -2 * math.log(cutoff) if cutoff > 0 else math.inf
    return out, tensors, [*features.shape, values.shape[2], far]


def _on_cpu(
    values: torch.Tensor, grad: torch.Tensor | None, features: torch.Tensor, cutoff: float
) -> torch.Tensor:
    if not features.isfinite().all():
        raise ValueError("features: expected finite values, got NaN or infinite ones")
    out, tensors, how = _run(values, grad, features, cutoff)
    if values.numel() == 0:  # features of no image that has values have a gradient, too: zeros
        return out.zero_()
    kind = "double" if values.dtype == torch.float64 else "float"
    name = "gauss_transform_cpu_" if grad is None else "gauss_transform_features_cpu_"
    native = getattr(_C, name + kind)
    native(*(t.data_ptr() for t in tensors), *how, num_threads())
    return out


def _on_cuda(
    values: torch.Tensor,
    grad: torch.Tensor | None,
    features: torch.Tensor,
    cutoff: float,
    half: bool,
) -> torch.Tensor:
    out, tensors, how = _run(values, grad, features, cutoff)
    if out.numel() == 0 or values.numel() == 0:
        return out.zero_()
    dtype = str(values.dtype).removeprefix("torch.")
    images, n, d, channels, _ = how
    size = _C.gauss_transform_scratch_bytes_cuda(images, n, d, channels, dtype)
    scratch = torch.empty(size, dtype=torch.uint8, device=out.device)
    name = "gauss_transform_cuda" if grad is None else "gauss_transform_features_cuda"
    pointers = [t.data_ptr() for t in tensors]
    call_cuda(name, out, *pointers, *how, dtype, half, scratch.data_ptr())
    finite = features.isfinite().all(2).all(1)[:, None, None]
    return torch.where(finite, out, math.nan)


def _transform_cpu(
    values: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _on_cpu(values, None, features, cutoff)


def _transform_cuda(
    values: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _on_cuda(values, None, features, cutoff, half)


def _features_cpu(
    values: torch.Tensor, grad: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _on_cpu(values, grad, features, cutoff)


def _features_cuda(
    values: torch.Tensor, grad: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _on_cuda(values, grad, features, cutoff, half)


def _like(tensor: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(tensor, memory_format=torch.contiguous_format)


def _transform_fake(
    values: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _like(values)


def _features_fake(
    values: torch.Tensor, grad: torch.Tensor, features: torch.Tensor, cutoff: float, half: bool
) -> torch.Tensor:
    return _like(features)


def _vmap(
    op: Any,
    size: int,
    dims: Sequence[Any],
    values: torch.Tensor,
    features: torch.Tensor,
    *how: Any,
) -> tuple[Any, Any]:
    """Samples that share their points are channels of them, else images."""
    if dims[1] is not None:
        return over_batch(0, 1)(op, size, dims, values, features, *how)
    wide = front(values, dims[0], size).movedim(0, 2)  # (B, N, size, C)
    return op(wide.flatten(2), features, *how).view(wide.shape), 2


def _tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    values, features, *how = args
    of_values, of_features, *_ = tangents
    out = torch.zeros_like(values) if of_values is None else op(of_values, features, *how)
    if of_features is not None:
        out = out + directional(op, values, features, of_features, how)
    return out


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    *tensors, cutoff, _ = inputs
    ctx.how = cutoff, False  # gradients may be too large for float16, or too small
    ctx.save_for_backward(*tensors)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    values, features = ctx.saved_tensors
    of_values, of_features, *_ = ctx.needs_input_grad
    return (
        transform(grad, features, *ctx.how) if of_values else None,  # K is symmetric
        _features_gradient(values, grad, features, *ctx.how) if of_features else None,
        None,
        None,
    )


def _features_tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> torch.Tensor:
    values, grad, features, *how = args
    of_values, of_grad, of_features, *_ = tangents
    out = torch.zeros_like(features)
    if of_values is not None:
        out = out + op(of_values, grad, features, *how)
    if of_grad is not None:
        out = out + op(values, of_grad, features, *how)
    if of_features is not None:
        ops = transform, op
        out = out + directional_of_features_gradient(ops, values, grad, features, of_features, how)
    return out


def _features_backward(ctx: Any, along: torch.Tensor) -> tuple[Any, ...]:
    """Of <along, gradient>: with respect to values v and gradient g, which come in alike."""
    values, grad, features = ctx.saved_tensors
    needs = ctx.needs_input_grad
    ops = transform, _features_gradient
    return (
        directional(transform, grad, features, along, ctx.how) if needs[0] else None,
        directional(transform, values, features, along, ctx.how) if needs[1] else None,
        directional_of_features_gradient(ops, values, grad, features, along, ctx.how)
        if needs[2]
        else None,
        None,
        None,
    )


_features_gradient = define_op(
    "gauss_transform_features(Tensor values, Tensor grad, Tensor features, float cutoff, "
    "bool half) -> Tensor",
    cpu=_features_cpu,
    cuda=_features_cuda,
    fake=_features_fake,
    vmap=over_batch(0, 1, 2),
    tangents=_features_tangents,
    backward=_features_backward,
    setup_context=_setup_context,
)

transform = define_op(
    "gauss_transform(Tensor values, Tensor features, float cutoff, bool half) -> Tensor",
    cpu=_transform_cpu,
    cuda=_transform_cuda,
    fake=_transform_fake,
    vmap=_vmap,
    tangents=_tangents,
    backward=_backward,
    setup_context=_setup_context,
)
