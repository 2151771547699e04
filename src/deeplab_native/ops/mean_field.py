"""Mean field inference in a fully connected CRF with any list of pairwise kernels.

Kraehenbuehl and Koltun, "Efficient Inference in Fully Connected CRFs with Gaussian Edge
Potentials", NIPS 2011, algorithm 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import torch

from .._native import define_op, widen
from ._bridged import check_bridged, check_lattice_kind
from ._crf_vmap import vmap_mean_field, vmap_mean_field_backward
from ._exact_mean_field import exact_of_kernels
from ._mean_field_checks import (
    NORMALIZATIONS,
    PairwiseKernel,
    check_algorithm,
    check_iterations,
    check_kernels,
    check_precision,
    check_unary,
)
from ._mean_field_gradient import Gradients, mean_field_backward_of_batch
from ._mean_fields import mean_fields
from .pairwise_features import Features


def mean_field(
    unary: torch.Tensor,
    kernels: Sequence[PairwiseKernel],
    *,
    iterations: int = 10,
    precision: str = "single",
    lattice: str = "standard",
    algorithm: str = "lattice",
) -> torch.Tensor:
    """Q <- softmax(-U - sum over m of C_m (K_m Q)), `iterations` times from Q = softmax(-U).

    Args:
        unary: energies (B, L, N), or (L, N) of one image, float32 or float64 (float16 and bfloat16
            are computed in float32), finite; or +inf, which excludes a label at a pixel, as long as
            one is left: its marginal there is 0, and so is its gradient.
        kernels: `PairwiseKernel`s, or tuples of their fields.
        iterations: 0 or more.
        precision: "single", or "half" as of `dense_crf`, where no kernel has more than 16
            dimensions.
        lattice: "standard", or "bridged" as of `dense_crf`, up to 16 dimensions of each kernel.
        algorithm: "lattice" or "exact", as of `dense_crf`.

    Returns:
        Marginals of the unary's shape that sum to 1 over L; differentiable once, with respect to
        the unary, the compatibilities and the features (the unrolled iterations of the lattice's
        filters, see docs/crf_gradients.md), in memory that does not grow with the iterations.

    Raises:
        TypeError, ValueError: before any iteration, naming the argument. On CUDA values are not
            looked at, which would be to wait for the device: NaN, -inf, or +inf for all labels of a
            pixel, give NaN in that image, and an image whose features are not finite, or too large,
            is NaN (every image, where they are shared). Compatibilities other than plain numbers
            should be tensors there, or else are copied from the host.
    """
    unary, alone = batch_of(unary)
    checked = check_kernels(unary, kernels)
    bridged = check_lattice_kind(lattice, algorithm)
    if check_algorithm(algorithm):
        how = check_iterations(iterations), check_precision(precision)
        q = exact_of_kernels(unary, checked, *how)
        return q[0] if alone else q
    for m, kernel in enumerate(checked):
        check_bridged(f"kernels[{m}].features", kernel.features.shape[-1], bridged=bridged)
    marginals = _mean_field(
        unary,
        [k.features for k in checked],
        [k.compatibility for k in checked],
        [NORMALIZATIONS[k.normalization] for k in checked],
        check_iterations(iterations),
        check_precision(precision),
        0,
        bridged,
    )
    return marginals[0] if alone else marginals


def batch_of(unary: torch.Tensor) -> tuple[torch.Tensor, bool]:
    """Energies (B, L, N), checked, and whether they were (L, N), of one image."""
    unary = widen(unary)
    alone = isinstance(unary, torch.Tensor) and unary.ndim == 2
    unary = unary[None] if alone else unary
    check_unary(unary, ndim=3, layout="(B, L, N) or (L, N)")
    return unary, alone


def mean_field_of_batch(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    half: bool = False,
    width: int = 0,
    bridged: bool = False,
    *,
    names: Sequence[tuple[str, str]] | None = None,
) -> torch.Tensor:
    """`mean_field` on checked tensors: Q (B, L, N) of a unary (B, L, N), in its dtype.

    The lists have an item for each kernel: features (B, N, d) or (N, d), compatibility, number of
    the normalization. `half`, `width`, `bridged` and `names` as in _mean_fields.py.
    """
    q = _like(unary)
    how = compatibilities, normalizations, names
    groups = mean_fields(unary, features, *how, half=half, width=width, bridged=bridged)
    for images, field in groups:
        field.inference(iterations, q[images])
        del field  # its memory serves the next one
    return q


def _like(unary: torch.Tensor) -> torch.Tensor:
    return torch.empty_like(unary, memory_format=torch.contiguous_format)


def _mean_field_fake(
    unary: torch.Tensor,
    features: Features,
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    *rest: object,
) -> torch.Tensor:
    return _like(unary)


def not_twice_differentiable(name: str) -> Callable[..., NoReturn]:
    """A backward for backward ops: an error instead of second derivatives that are zero."""

    def backward(ctx: Any, *grads: Any) -> NoReturn:
        raise RuntimeError(f"{name}: no second derivatives; differentiate it once")

    return backward


def _backward_fake(
    grad: torch.Tensor,
    unary: torch.Tensor,
    features: Sequence[torch.Tensor],
    compatibilities: Sequence[torch.Tensor],
    normalizations: Sequence[int],
    iterations: int,
    needs_compatibility: bool,
    needs_features: Sequence[bool],
    *rest: object,
) -> Gradients:
    own = zip(features, needs_features, strict=True)
    return (
        torch.empty_like(grad, memory_format=torch.contiguous_format),
        [torch.empty_like(c) for c in compatibilities],
        [f.new_empty(f.shape if needed else (0,)) for f, needed in own],
    )


_mean_field_backward = define_op(
    "mean_field_backward(Tensor grad, Tensor unary, Tensor[] features, Tensor[] compatibilities, "
    "int[] normalizations, int iterations, bool needs_compatibility, bool[] needs_features, "
    "int width, bool bridged) -> (Tensor, Tensor[], Tensor[])",
    cpu=mean_field_backward_of_batch,
    cuda=mean_field_backward_of_batch,
    fake=_backward_fake,
    vmap=vmap_mean_field_backward,
    tangents=not_twice_differentiable("mean_field"),
    backward=not_twice_differentiable("mean_field"),
)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    unary, features, compatibilities, ctx.normalizations, ctx.iterations, _, *ctx.how = inputs
    ctx.num_features = len(features)
    ctx.save_for_backward(unary, *features, *compatibilities)


def _backward(ctx: Any, grad: torch.Tensor) -> tuple[Any, ...]:
    unary, *rest = ctx.saved_tensors
    _, needs_features, needs_compatibilities, *_ = ctx.needs_input_grad
    features, compatibilities = rest[: ctx.num_features], rest[ctx.num_features :]
    grad_unary, grad_compatibilities, grad_features = _mean_field_backward(
        grad,
        unary,
        features,
        compatibilities,
        ctx.normalizations,
        ctx.iterations,
        any(needs_compatibilities),
        list(needs_features),
        *ctx.how,
    )
    own = zip(grad_features, needs_features, strict=True)
    of_features = [g if needed else None for g, needed in own]
    return grad_unary, of_features, grad_compatibilities, *[None] * 5


_mean_field = define_op(
    "mean_field(Tensor unary, Tensor[] features, Tensor[] compatibilities, int[] normalizations, "
    "int iterations, bool half, int width, bool bridged) -> Tensor",
    cpu=mean_field_of_batch,
    cuda=mean_field_of_batch,
    fake=_mean_field_fake,
    vmap=vmap_mean_field,
    backward=_backward,
    setup_context=_setup_context,
)
