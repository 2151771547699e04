"""Gaussian filtering of points in d dimensions with the permutohedral lattice.

Adams, Baek and Davis, "Fast High-Dimensional Filtering Using the Permutohedral Lattice", 2010.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from .. import _C
from .._autograd import linear
from .._batching import front, loop
from .._native import check_same_device, check_tensor, define_op, widen
from ._bridged import check_bridged, check_lattice_kind
from ._lattice_cpu import build_lattice, check_lattice
from ._lattice_cuda import CudaFilter, CudaLattice, check_size, images_at_once
from .lattice_gradient import permutohedral_filter_backward

_FILTERS = {
    torch.float32: _C.permutohedral_filter_cpu_float,
    torch.float64: _C.permutohedral_filter_cpu_double,
}


def permutohedral_filter(
    values: torch.Tensor, features: torch.Tensor, *, lattice: str = "standard"
) -> torch.Tensor:
    """out[i] = sum over j of exp(-|f_i - f_j|^2 / 2) v_j, approximately, i = j included.

    The lattice's Gaussian is not normalised and, where its vertices are sparse, has less mass than
    the exact one (about half at d = 5): divide by the filter of ones, as the CRF does.

    Args:
        values: (N, C) or (B, N, C), float32 or float64; float16 and bfloat16 are computed in
            float32. NaN and infinities make NaN of what they reach in their image. Sums below the
            least normal number (1.2e-38) may become 0.
        features: (N, d) or (B, N, d), 1 <= d <= 64, divided by their standard deviations. The
            lattice is built in float32 whatever their dtype. (N, d) serves every image of a batch.
            Time and memory grow with the number of vertices, up to d + 1 for each point.
        lattice: "bridged" is closer to the exact sum, as of `dense_crf`; up to 16 dimensions.

    Returns:
        Like `values`, contiguous, but float32 for narrower ones. Its gradients are those of the
        lattice: with respect to the values the transposed filter; with respect to the features,
        which is differentiable once, as the barycentric weights move (piecewise linearly, and
        across the faces of the simplices continuously), while the vertices and the blur stay.

    Raises:
        TypeError, ValueError: an argument of another type, dtype, shape or device, features that
            are not finite, or too large for the lattice. On CUDA features are not looked at, which
            would be to wait for the device: an image whose features are not finite, or too large,
            is NaN.
    """
    values = widen(values)
    bridged = check_lattice_kind(lattice)
    check_tensor(
        "values", values, ndim=(2, 3), dtypes=tuple(_FILTERS), layout="(N, C) or (B, N, C)"
    )
    check_features("features", features, values.shape[:-1])
    check_bridged("features", features.shape[-1], bridged=bridged)
    check_same_device(values=values, features=features)
    if values.shape[-1] < 1:
        raise ValueError(f"values: expected at least one channel, got shape {tuple(values.shape)}")
    return _filter(values, features, False, bridged)


def check_features(name: str, features: torch.Tensor, points: torch.Size) -> None:
    """Raises where features are not (N, d) or (B, N, d) for points of shape (N,) or (B, N)."""
    check_tensor(
        name,
        features,
        ndim=(2, 3),
        dtypes=(torch.float32, torch.float64),
        layout="(N, d) or (B, N, d)",
    )
    if features.ndim > len(points) + 1 or tuple(features.shape[:-1]) != tuple(
        points[len(points) - features.ndim + 1 :]
    ):
        raise ValueError(
            f"{name}: expected one row for each of the {tuple(points)} points, "
            f"got shape {tuple(features.shape)}"
        )
    if not 1 <= features.shape[-1] <= _C.max_feature_dim:
        raise ValueError(
            f"{name}: expected 1 to {_C.max_feature_dim} dimensions, got shape "
            f"{tuple(features.shape)}"
        )


def _filter_cpu(
    values: torch.Tensor, features: torch.Tensor, transposed: bool, bridged: bool
) -> torch.Tensor:
    native = _FILTERS[values.dtype]
    values = values.contiguous()
    out = torch.empty_like(values)
    batch = values.shape[0] if values.ndim == 3 else 1
    for own in features[1:] if features.ndim == 3 else ():  # before the first is filtered
        check_lattice(own, "features", bridged=bridged)
    lattice = build_lattice(features, bridged=bridged) if features.ndim == 2 else None
    for b in range(batch):
        one, result = (values[b], out[b]) if values.ndim == 3 else (values, out)
        used = build_lattice(features[b], bridged=bridged) if lattice is None else lattice
        native(used, one.data_ptr(), result.data_ptr(), one.shape[1], transposed)
    return out


def _filter_cuda(
    values: torch.Tensor, features: torch.Tensor, transposed: bool, bridged: bool
) -> torch.Tensor:
    values = values.contiguous()
    out = torch.empty_like(values)
    points, channels = values.shape[-2:]
    d = features.shape[-1]
    check_size("features", points, d, bridged=bridged)
    batched, results = (t if t.ndim == 3 else t[None] for t in (values, out))
    batch = batched.shape[0]
    group = images_at_once(values, points, [d], channels, max(1, batch), bridged=bridged)
    shared = CudaLattice(features, bridged=bridged) if features.ndim == 2 else None
    for first in range(0, batch, group):
        images = slice(first, min(first + group, batch))
        lattice = shared or CudaLattice(features[images], bridged=bridged)
        replicas = images.stop - images.start if shared else 1
        weights = lattice.weights(values.dtype)
        filter_ = CudaFilter(lattice, replicas, channels, *weights)
        filter_(batched[images], results[images], transposed=transposed)
    return out


def _filter_fake(
    values: torch.Tensor, features: torch.Tensor, transposed: bool, bridged: bool
) -> torch.Tensor:
    return torch.empty_like(values, memory_format=torch.contiguous_format)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    values, features, ctx.transposed, ctx.bridged = inputs
    if ctx.needs_input_grad[1]:
        ctx.save_for_backward(features, values)
    else:  # values are not needed
        ctx.save_for_backward(features)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    features, *values = ctx.saved_tensors
    if not values:
        return _filter(grad, features, not ctx.transposed, ctx.bridged), None, None, None
    how = ctx.transposed, ctx.bridged
    return *permutohedral_filter_backward(grad, values[0], features, *how), None, None


def _tangents(op: Any, args: Sequence[Any], tangents: Sequence[Any]) -> Any:
    if tangents[1] is not None:
        raise NotImplementedError(
            "permutohedral_filter: has no forward-mode derivative with respect to features; use "
            "reverse mode: torch.func.vjp, grad or jacrev"
        )
    return linear(op, args, tangents)


def _vmap(
    op: Any,
    size: int,
    dims: Sequence[Any],
    values: torch.Tensor,
    features: torch.Tensor,
    *how: bool,
) -> tuple[Any, Any]:
    """One lattice for all that share its features: samples of values are images, or channels."""
    of_values, of_features, *_ = dims
    if 0 in values.shape:
        return loop(op, size, dims, values, features, *how)
    samples = front(values, of_values, size)
    if of_features is None and features.ndim == 2:
        out = op(samples.reshape(-1, *samples.shape[-2:]), features, *how)
        return out.view(samples.shape), 0
    if of_features is None:  # (size, B, N, C) as (B, N, size * C)
        wide = samples.movedim(0, 2)
        out = op(wide.flatten(2), features, *how)
        return out.view(wide.shape), 2
    of_samples = front(features, of_features, size)
    if samples.ndim > of_samples.ndim:  # images of a sample share its features: (size, N, B * C)
        wide = samples.movedim(1, 2)
        out = op(wide.flatten(2), of_samples, *how)
        return out.view(wide.shape).movedim(2, 1), 0
    flat = (t.reshape(-1, *t.shape[-2:]) for t in (samples, of_samples))
    return op(*flat, *how).view(samples.shape), 0


_filter = define_op(
    "permutohedral_filter(Tensor values, Tensor features, bool transposed, bool bridged) -> Tensor",
    cpu=_filter_cpu,
    cuda=_filter_cuda,
    fake=_filter_fake,
    vmap=_vmap,
    tangents=_tangents,
    backward=_backward,
    setup_context=_setup_context,
)
