"""What `torch.vmap` does with the ops of the CRF: samples of unaries and images are a batch.

Weights and compatibilities belong to a whole call, as do their gradients, which are sums over its
batch: where each sample has its own it is a loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .._batching import any_batched, front, loop, merge, sample, split

Dims = Sequence[Any]
Result = tuple[Any, Any]


def vmap_mean_field(
    op: Any,
    size: int,
    dims: Dims,
    unary: torch.Tensor,
    features: list[torch.Tensor],
    compatibilities: list[torch.Tensor],
    *how: Any,
) -> Result:
    """(B, L, N) of each sample."""
    of_unary, of_features, of_compatibilities, *_ = dims
    if any_batched(of_compatibilities):
        return loop(op, size, dims, unary, features, compatibilities, *how)
    merged = merge(unary, of_unary, size)
    shared = _features(features, of_features, size, merged.shape[0] // size)
    return split(op(merged, shared, compatibilities, *how), size), 0


def vmap_mean_field_backward(
    op: Any,
    size: int,
    dims: Dims,
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: list[torch.Tensor],
    compatibilities: list[torch.Tensor],
    *how: Any,
) -> Result:
    """Of each sample (B, L, N), and of its compatibilities and features."""
    of_grad, of_unary, of_features, of_compatibilities, *_ = dims
    needed = [_given(op, how, "needs_compatibility"), *_given(op, how, "needs_features")]
    if any(needed) or any_batched(of_compatibilities):
        return loop(op, size, dims, grad, unary, features, compatibilities, *how)
    merged = merge(grad, of_grad, size)
    shared = _features(features, of_features, size, merged.shape[0] // size)
    grad_unary, *zeros = op(merged, merge(unary, of_unary, size), shared, compatibilities, *how)
    return (split(grad_unary, size), *zeros), (0, *([None] * len(own) for own in zeros))


def _features(
    features: list[torch.Tensor], dims: Sequence[int | None], size: int, batch: int
) -> list[torch.Tensor]:
    """(N, d) as they are where all samples share them, else (size * batch, N, d)."""
    merged = []
    for own, dim in zip(features, dims, strict=True):
        if dim is None and own.ndim == 2:
            merged.append(own)
            continue
        of_samples = front(own, dim, size)
        if of_samples.ndim == 3:  # (size, N, d): of all images of a sample
            of_samples = of_samples[:, None].expand(-1, batch, -1, -1)
        merged.append(of_samples.reshape(size * batch, *of_samples.shape[2:]))
    return merged


def vmap_dense_crf(
    op: Any,
    size: int,
    dims: Dims,
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: list[torch.Tensor],
    *how: Any,
) -> Result:
    """(B, L, H, W) of each sample."""
    of_unary, of_image, of_weights, *_ = dims
    if any_batched(of_weights):
        return loop(op, size, dims, unary, image, weights, *how)
    merged = merge(unary, of_unary, size), merge(image, of_image, size)
    return split(op(*merged, weights, *how), size), 0


def vmap_dense_crf_backward(
    op: Any,
    size: int,
    dims: Dims,
    grad: torch.Tensor,
    unary: torch.Tensor,
    image: torch.Tensor,
    weights: list[torch.Tensor],
    *how: Any,
) -> Result:
    """Of each sample (B, L, H, W), and of its weights."""
    if _given(op, how, "needs_weights") or any_batched(dims[3]):
        return loop(op, size, dims, grad, unary, image, weights, *how)
    merged = (merge(t, d, size) for t, d in zip((grad, unary, image), dims[:3], strict=True))
    grad_unary, zeros = op(*merged, weights, *how)
    return (split(grad_unary, size), zeros), (0, [None] * len(zeros))


def vmap_images(
    op: Any,
    size: int,
    dims: Dims,
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    *how: Any,
) -> Result:
    """(L, H, W) of each image of each sample: a list of all samples' images."""
    if any_batched(dims[2]):
        return loop(op, size, dims, unaries, images, weights, *how)
    listed = (_listed(ts, ds, size) for ts, ds in zip((unaries, images), dims[:2], strict=True))
    return _stacked(op(*listed, weights, *how), size), 0


def vmap_images_backward(
    op: Any,
    size: int,
    dims: Dims,
    grads: list[torch.Tensor],
    unaries: list[torch.Tensor],
    images: list[torch.Tensor],
    weights: list[torch.Tensor],
    *how: Any,
) -> Result:
    """Of each image (L, H, W) of each sample, and of its weights."""
    if _given(op, how, "needs_weights") or any_batched(dims[3]):
        return loop(op, size, dims, grads, unaries, images, weights, *how)
    lists = zip((grads, unaries, images), dims[:3], strict=True)
    of_unaries, zeros = op(*(_listed(ts, ds, size) for ts, ds in lists), weights, *how)
    results = _stacked(of_unaries, size), zeros
    return results, ([0] * len(results[0]), [None] * len(zeros))


def _listed(tensors: list[torch.Tensor], dims: Dims, size: int) -> list[torch.Tensor]:
    """All tensors of the first sample, then those of the second, and so on."""
    return [tensor for i in range(size) for tensor in sample(tensors, dims, i)]


def _stacked(results: list[torch.Tensor], size: int) -> list[torch.Tensor]:
    """The other way round, the samples of each first."""
    count = len(results) // size
    return [torch.stack(results[i::count]) for i in range(count)]


def _given(op: Any, last: Sequence[Any], name: str) -> Any:
    """The argument of this name among the last ones."""
    names = [argument.name for argument in op._schema.arguments]
    return last[names.index(name) - len(names)]
