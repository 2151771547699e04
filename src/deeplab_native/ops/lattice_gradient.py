"""The gradient of `permutohedral_filter` with respect to values and features together.

With y = K x and g the gradient of y: K^T g of the values, and of the features what
csrc/ops/lattice_gradient.h says: products of rows that slicing would sum.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from .. import _C
from .._batching import front, loop
from .._native import define_op
from ._lattice_cpu import build_lattice
from ._lattice_cuda import (
    AS_GIVEN,
    CudaFilter,
    CudaLattice,
    FilterParts,
    images_at_once,
)
from ._lattice_gradient_cuda import LatticeGradient

Pair = tuple[torch.Tensor, torch.Tensor]

_NATIVE: dict[torch.dtype, tuple[Callable[..., None], Callable[..., None]]]
_NATIVE = {
    torch.float32: (_C.lattice_gradient_cpu_float, _C.features_gradient_cpu_float),
    torch.float64: (_C.lattice_gradient_cpu_double, _C.features_gradient_cpu_double),
}


def _backward_cpu(
    grad: torch.Tensor,
    values: torch.Tensor,
    features: torch.Tensor,
    transposed: bool,
    bridged: bool,
) -> Pair:
    of_filter, of_weights = _NATIVE[values.dtype]
    grad, values = grad.contiguous(), values.contiguous()
    grad_values = torch.empty_like(values)
    grad_features = features.new_zeros(features.shape)
    all_grads, all_values, of_values = (_batched(t) for t in (grad, values, grad_values))
    for own, of_own, images in _with_images(features, grad_features, len(all_values)):
        lattice = build_lattice(own, bridged=bridged)
        weights = values.new_zeros(lattice.num_entries)
        for b in images:
            addresses = (t[b].data_ptr() for t in (all_values, all_grads, of_values))
            of_filter(lattice, *addresses, values.shape[-1], transposed, weights.data_ptr())
        used, out = own.detach().to(torch.float32), values.new_empty(own.shape)
        where = used.data_ptr(), *used.shape, *used.stride()
        of_weights(lattice, where, weights.data_ptr(), out.data_ptr())
        of_own.copy_(out)
    return grad_values, grad_features


def _batched(tensor: torch.Tensor) -> torch.Tensor:
    return tensor if tensor.ndim == 3 else tensor[None]


def _with_images(
    features: torch.Tensor, out: torch.Tensor, batch: int
) -> Sequence[tuple[torch.Tensor, torch.Tensor, Sequence[int]]]:
    """(features, where their gradient goes, numbers of the images that have them)."""
    if features.ndim == 2:
        return [(features, out, range(batch))] if batch else []
    return [(features[b], out[b], [b]) for b in range(batch)]


def _backward_cuda(
    grad: torch.Tensor,
    values: torch.Tensor,
    features: torch.Tensor,
    transposed: bool,
    bridged: bool,
) -> Pair:
    grad, values = grad.contiguous(), values.contiguous()
    grad_values = torch.empty_like(values)
    grad_features = features.new_zeros(features.shape)
    grads, xs, of_xs = (_batched(t) for t in (grad, values, grad_values))
    batch, points, channels = xs.shape
    d = features.shape[-1]
    group = images_at_once(values, points, [d], 2 * channels, max(1, batch), bridged=bridged)
    shared = (
        _Parts(features, values.dtype, bridged=bridged) if features.ndim == 2 and batch else None
    )
    for first in range(0, batch, group):
        images = slice(first, min(first + group, batch))
        parts = shared or _Parts(features[images], values.dtype, bridged=bridged)
        parts.add(xs[images], grads[images], of_xs[images], transposed=transposed)
        if shared is None:
            grad_features[images] = parts.of_features()
    if shared is not None:
        grad_features.copy_(shared.of_features())
    return grad_values, grad_features


class _Parts:
    """The lattices of features on a device, and the sums of what they have of a gradient."""

    def __init__(self, features: torch.Tensor, dtype: torch.dtype, *, bridged: bool) -> None:
        self._features = features
        self._lattice = CudaLattice(features, order=AS_GIVEN, bridged=bridged)
        self._weights = self._lattice.weights(dtype)
        parts = FilterParts(self._lattice, (None, None), self._weights)
        self._sums = LatticeGradient(parts, dtype)

    def add(
        self, x: torch.Tensor, g: torch.Tensor, back: torch.Tensor, *, transposed: bool
    ) -> None:
        replicas = len(x) if self._features.ndim == 2 else 1
        filter_ = CudaFilter(self._lattice, replicas, x.shape[-1], *self._weights)
        no_scales = None, None
        self._sums.add(filter_, filter_, x, g, back, no_scales, transposed=transposed)

    def of_features(self) -> torch.Tensor:
        return self._sums.of_features(self._features)


def _backward_fake(
    grad: torch.Tensor,
    values: torch.Tensor,
    features: torch.Tensor,
    transposed: bool,
    bridged: bool,
) -> Pair:
    return (
        torch.empty_like(values, memory_format=torch.contiguous_format),
        torch.empty_like(features, memory_format=torch.contiguous_format),
    )


def _vmap(op: Any, size: int, dims: Sequence[Any], *args: Any) -> tuple[Any, Any]:
    """Samples with features of their own are images; of others gradients are sums: a loop."""
    tensors, how = args[:3], args[3:]
    samples = [front(t, d, size) for t, d in zip(tensors, dims[:3], strict=True)]
    _, values, features = samples
    if dims[2] is None or features.ndim != values.ndim or values.numel() == 0:
        return loop(op, size, dims, *args)
    results = op(*(t.reshape(-1, *t.shape[-2:]) for t in samples), *how)
    return tuple(r.view(t.shape) for r, t in zip(results, (values, features), strict=True)), (0, 0)


def _once(ctx: Any, *grads: Any) -> NoReturn:
    raise RuntimeError(
        "permutohedral_filter: no second derivatives with features that require a gradient; "
        "differentiate it once, or pass features.detach()"
    )


permutohedral_filter_backward = define_op(
    "permutohedral_filter_backward(Tensor grad, Tensor values, Tensor features, bool transposed, "
    "bool bridged) -> (Tensor, Tensor)",
    cpu=_backward_cpu,
    cuda=_backward_cuda,
    fake=_backward_fake,
    vmap=_vmap,
    tangents=_once,
    backward=_once,
)
